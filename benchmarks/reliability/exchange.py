"""One request of each sort over real HTTP, and what its client saw of it.

A stream that is read to its end, one that its client leaves in the middle, an answer in one piece,
and a body that has to be refused. None of them raises for what the connection does.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from benchmarks.reliability.outcome import Ending, Request

_CONNECT_SECONDS = 5.0
_LEAVE_AFTER_TOKENS = 20
_DONE = b"data: [DONE]"
_DATA = b"data: "

# Session, base URL, model, prompt, tokens -> what was seen; None where the client itself left.
Ask = Callable[[aiohttp.ClientSession, str, str, str, int], Awaitable[Request | None]]


@dataclass(slots=True)
class Seen:
    """What has been seen of a response so far."""

    first_byte: float | None = None
    status: int | None = None
    retry_after: bool = False
    first_token: float | None = None
    token_events: int = 0
    tokens: int = 0
    done: bool = False
    openai_error: bool = False
    ending: Ending = Ending.COMPLETE

    def line(self, line: bytes) -> None:
        """Take in one line of an event stream."""
        if line.startswith(_DONE):
            self.done = True
        elif line.startswith(_DATA):
            event = json.loads(line[len(_DATA) :])
            self.openai_error = self.openai_error or is_openai_error(event)
            if has_token(event):
                self.token_events += 1
                self.first_token = self.first_token or time.monotonic()
            if event.get("usage"):
                self.tokens = event["usage"]["completion_tokens"]

    def whole(self, body: bytes) -> None:
        """Take in a body that came in one piece."""
        document: Any = _parsed(body)
        self.openai_error = is_openai_error(document)
        usage = document.get("usage") if isinstance(document, dict) else None
        if usage:
            self.first_token, self.done = time.monotonic(), True
            self.tokens = usage["completion_tokens"]

    def request(self, start: float, wanted_tokens: int) -> Request:
        """The request that was answered so."""
        return Request(
            start=start,
            end=time.monotonic(),
            ending=self.ending,
            wanted_tokens=wanted_tokens,
            first_byte=self.first_byte,
            first_token=self.first_token,
            status=self.status,
            tokens=self.tokens,
            done=self.done,
            openai_error=self.openai_error,
            retry_after=self.retry_after,
        )


def is_openai_error(document: Any) -> bool:
    """Whether a JSON document is an error in OpenAI's form."""
    if not isinstance(document, dict) or not isinstance(document.get("error"), dict):
        return False
    return isinstance(document["error"].get("message"), str) and "type" in document["error"]


def has_token(event: Mapping[str, Any]) -> bool:
    """Whether an event of a chat stream brings a token; the first brings the role alone."""
    choices: Any = event.get("choices")
    return bool(choices) and "role" not in choices[0].get("delta", {"role": ""})


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def chat_body(model: str, prompt: str, tokens: int, *, stream: bool) -> dict[str, Any]:
    """A chat completion of exactly `tokens` tokens."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": tokens,
        "ignore_eos": True,
        "temperature": 0,
    }
    return {**body, "stream": True, "stream_options": {"include_usage": True}} if stream else body


def client_session(silence_seconds: float) -> aiohttp.ClientSession:
    """A client with one connection that it keeps, and that gives up on silence alone."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=1),
        timeout=aiohttp.ClientTimeout(
            total=None, sock_connect=_CONNECT_SECONDS, sock_read=silence_seconds
        ),
    )


@asynccontextmanager
async def _answer(
    session: aiohttp.ClientSession, url: str, body: Mapping[str, Any], seen: Seen
) -> AsyncIterator[aiohttp.ClientResponse]:
    """Send and note the response's head; inside, errors of the connection end up in `seen`."""
    async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
        seen.first_byte, seen.status = time.monotonic(), answer.status
        seen.retry_after = answer.headers.get("Retry-After", "").isdigit()
        if answer.status != 200:
            seen.whole(await answer.read())
        yield answer


async def _exchange(talk: Callable[[], Awaitable[None]], seen: Seen) -> None:
    try:
        await talk()
    except aiohttp.ClientConnectorError:
        seen.ending = Ending.UNREACHABLE
    except TimeoutError:
        seen.ending = Ending.SILENT
    except (aiohttp.ClientError, ConnectionError):
        seen.ending = Ending.CLOSED


async def ask_stream(
    session: aiohttp.ClientSession, url: str, model: str, prompt: str, tokens: int
) -> Request:
    """A stream, read to its end."""
    start, seen = time.monotonic(), Seen()
    body = chat_body(model, prompt, tokens, stream=True)

    async def talk() -> None:
        async with _answer(session, url, body, seen) as answer:
            if answer.status == 200:
                async for line in answer.content:
                    seen.line(line)

    await _exchange(talk, seen)
    return seen.request(start, tokens)


async def ask_whole(
    session: aiohttp.ClientSession, url: str, model: str, prompt: str, tokens: int
) -> Request:
    """An answer in one piece."""
    start, seen = time.monotonic(), Seen()
    body = chat_body(model, prompt, tokens, stream=False)

    async def talk() -> None:
        async with _answer(session, url, body, seen) as answer:
            if answer.status == 200:
                seen.whole(await answer.read())

    await _exchange(talk, seen)
    return seen.request(start, tokens)


async def ask_and_leave(
    session: aiohttp.ClientSession, url: str, model: str, prompt: str, tokens: int
) -> Request | None:
    """A stream that its client leaves after some tokens; None where it came to that."""
    start, seen = time.monotonic(), Seen()
    body = chat_body(model, prompt, tokens, stream=True)
    left = False

    async def talk() -> None:
        nonlocal left
        async with _answer(session, url, body, seen) as answer:
            if answer.status == 200:
                async for line in answer.content:
                    seen.line(line)
                    if seen.token_events >= min(tokens, _LEAVE_AFTER_TOKENS):
                        left = True
                        answer.close()
                        return

    await _exchange(talk, seen)
    return None if left else seen.request(start, tokens)


async def ask_wrongly(
    session: aiohttp.ClientSession, url: str, model: str, prompt: str, tokens: int
) -> Request:
    """A body that has to be refused: its messages are no list."""
    start, seen = time.monotonic(), Seen()
    body = {**chat_body(model, prompt, tokens, stream=True), "messages": prompt}

    async def talk() -> None:
        async with _answer(session, url, body, seen):
            return

    await _exchange(talk, seen)
    return seen.request(start, tokens)
