"""From an OpenAI request body to what the mock engine needs; 400 for what it cannot do."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rayserve_par.serving.mock_engine.scheduler import Request
from rayserve_par.serving.mock_engine.times import EngineTimes
from rayserve_par.serving.mock_engine.tokens import (
    answer_words,
    block_names,
    chat_tokens,
    text_tokens,
)


class BadRequestError(ValueError):
    """The client's fault; `status` and `param` go into the error body."""

    def __init__(self, message: str, *, status: int = 400, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.param = param


@dataclass(frozen=True, slots=True)
class Ask:
    """A request that was understood; `response_id` is what its client sees."""

    response_id: str
    model: str
    chat: bool
    stream: bool
    include_usage: bool
    finish_reason: str
    answer: tuple[str, ...]
    request: Request

    def text(self, start: int, end: int) -> str:
        """The answer's text from token `start` up to `end`."""
        words = " ".join(self.answer[start:end])
        return f" {words}" if start else words


def read_ask(body: bytes, name: str, *, chat: bool, times: EngineTimes) -> Ask:
    """Understand a body of /v1/chat/completions or /v1/completions; ids are made from `name`.

    Raises:
        BadRequestError: it is not JSON, not of the right types, too long, or asks for n > 1.
    """
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequestError(f"The body is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise BadRequestError("The body is not a JSON object.")
    prompt = _chat_prompt(data) if chat else _prompt(data)
    if not prompt:
        raise BadRequestError("The prompt has no tokens.", param="messages" if chat else "prompt")
    if _number(data, "n", 1) != 1:
        raise BadRequestError("The mock engine answers once: n is 1.", param="n")
    limit = _max_tokens(data, chat=chat)
    room = times.max_model_len - len(prompt)
    if room < (limit or 1):
        raise BadRequestError(
            f"This model's maximum context length is {times.max_model_len} tokens; the prompt has "
            f"{len(prompt)} and max_tokens is {limit or 1}.",
            param="messages" if chat else "prompt",
        )
    natural = room if data.get("ignore_eos") is True else min(times.answer_tokens, room)
    count = min(limit or room, natural)
    answer = answer_words(prompt, count)
    options = data.get("stream_options")
    response_id = f"chatcmpl-{name}" if chat else f"cmpl-{name}"
    return Ask(
        response_id=response_id,
        model=str(data.get("model") or ""),
        chat=chat,
        stream=data.get("stream") is True,
        include_usage=isinstance(options, dict) and options.get("include_usage") is True,
        finish_reason="stop" if count == times.answer_tokens and limit != count else "length",
        answer=tuple(answer),
        request=Request(
            # As vLLM's: the number of the prompt in its list, and what makes the id unique.
            request_id=f"{response_id}{'' if chat else '-0'}-{uuid.uuid4().hex[:8]}",
            prompt_tokens=len(prompt),
            output_tokens=count,
            block_names=block_names([*prompt, *answer], times.block_tokens),
            priority=_number(data, "priority", 0),
        ),
    )


def _max_tokens(data: Mapping[str, Any], *, chat: bool) -> int | None:
    if chat and data.get("max_completion_tokens") is not None:
        limit = _number(data, "max_completion_tokens", 0)
    elif data.get("max_tokens") is not None:
        limit = _number(data, "max_tokens", 0)
    else:
        return None if chat else 16  # OpenAI's default for completions
    if limit < 1:
        raise BadRequestError(f"max_tokens must be at least 1, got {limit}.", param="max_tokens")
    return limit


def _number(data: Mapping[str, Any], key: str, default: int) -> int:
    value = data.get(key)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool):
        raise BadRequestError(f"{key} is {value!r}, not an integer.", param=key)
    return value


def _chat_prompt(data: Mapping[str, Any]) -> list[str]:
    messages = data.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequestError("messages is not a list of messages.", param="messages")
    pairs = []
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise BadRequestError("A message is an object with a role.", param="messages")
        pairs.append((message["role"], _content_text(message.get("content"))))
    return chat_tokens(pairs)


def _content_text(content: Any) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        texts = [part.get("text") if isinstance(part, dict) else None for part in content]
        if None not in texts:
            return "\n".join(map(str, texts))
    raise BadRequestError("content is neither text nor a list of text parts.", param="messages")


def _prompt(data: Mapping[str, Any]) -> list[str]:
    prompt = data.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], (str, list)):
        prompt = prompt[0]
    if isinstance(prompt, str):
        return text_tokens(prompt)
    if isinstance(prompt, list) and all(type(token) is int for token in prompt):
        return [str(token) for token in prompt]
    raise BadRequestError("prompt is one text or one list of token ids.", param="prompt")
