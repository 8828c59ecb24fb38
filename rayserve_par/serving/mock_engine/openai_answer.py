"""Response bodies in the shapes of vLLM 0.32 (vllm/entrypoints/openai/*/serving.py).

A chat stream begins with a chunk that brings the role, has one chunk for each token (or for
several, where the consumer was late), the last of them with `finish_reason`, a chunk with usage if
asked for, and `[DONE]`. The parts of a chunk that do not change are made once for each request.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from rayserve_par.serving.mock_engine.openai_request import Ask

DONE = b"data: [DONE]\n\n"


def compact(value: Any) -> bytes:
    """JSON without blanks."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def error_body(message: str, status: int, param: str | None = None) -> bytes:
    """OpenAI's error form."""
    kind = {400: "BadRequestError", 404: "NotFoundError"}.get(
        status, HTTPStatus(status).phrase.replace(" ", "")
    )
    return compact({"error": {"message": message, "type": kind, "param": param, "code": status}})


def models_body(names: tuple[str, ...], max_model_len: int, created: int) -> bytes:
    """The list of models."""
    cards: list[dict[str, Any]] = [
        {
            "id": name,
            "object": "model",
            "created": created,
            "owned_by": "rayserve-par",
            "root": names[0],
            "parent": None,
            "max_model_len": max_model_len,
            "permission": [],
        }
        for name in names
    ]
    return compact({"object": "list", "data": cards})


def usage(ask: Ask, tokens: int, cached: int) -> dict[str, Any]:
    """OpenAI's usage, with the cached tokens in vLLM's place for them."""
    prompt = ask.request.prompt_tokens
    return {
        "prompt_tokens": prompt,
        "total_tokens": prompt + tokens,
        "completion_tokens": tokens,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def full_body(ask: Ask, model: str, created: int, cached: int) -> bytes:
    """The answer to a request that does not stream."""
    tokens = len(ask.answer)
    choice: dict[str, Any] = {"index": 0}
    if ask.chat:
        choice["message"] = {"role": "assistant", "content": ask.text(0, tokens)}
    else:
        choice["text"] = ask.text(0, tokens)
    choice |= {"logprobs": None, "finish_reason": ask.finish_reason, "stop_reason": None}
    return compact(
        {
            "id": ask.response_id,
            "object": "chat.completion" if ask.chat else "text_completion",
            "created": created,
            "model": model,
            "choices": [choice],
            "usage": usage(ask, tokens, cached),
        }
    )


class Chunks:
    """The chunks of one stream."""

    def __init__(self, ask: Ask, model: str, created: int) -> None:
        self._ask = ask
        kind = "chat.completion.chunk" if ask.chat else "text_completion"
        head = compact({"id": ask.response_id, "object": kind, "created": created, "model": model})
        self._head = b"data: " + head[:-1]
        self._choice = self._head + b',"choices":[{"index":0,'

    def first(self) -> bytes:
        """What comes with the first token and before it."""
        if not self._ask.chat:
            return b""
        return self._choice + (
            b'"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}\n\n'
        )

    def tokens(self, start: int, end: int) -> bytes:
        """The tokens from `start` up to `end`; the answer's words need no escaping."""
        text = self._ask.text(start, end).encode()
        body = b'"delta":{"content":"%b"}' if self._ask.chat else b'"text":"%b"'
        last = end == len(self._ask.answer)
        reason = b'"%b"' % self._ask.finish_reason.encode() if last else b"null"
        stop = b',"stop_reason":null' if last or not self._ask.chat else b""
        tail = b',"logprobs":null,"finish_reason":' + reason + stop + b"}]}\n\n"
        return self._choice + body % text + tail

    def end(self, tokens: int, cached: int) -> bytes:
        """Usage, if asked for, and the end."""
        if not self._ask.include_usage:
            return DONE
        total = compact(usage(self._ask, tokens, cached))
        return self._head + b',"choices":[],"usage":' + total + b"}\n\n" + DONE
