"""A refused request: the HTTP status and OpenAI's error body.

Form: {"error": {"message", "type", "param", "code"}}
(https://platform.openai.com/docs/guides/error-codes).
"""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

INVALID = "invalid_request_error"
# Tells the front that another instance may take the request.
SHED_HEADER = (b"x-rayserve-par-shed", b"1")
_LONGEST_RETRY_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Refusal:
    """One refusal; `retry_after_seconds` becomes the header, in whole seconds, at least 1."""

    status: int
    message: str
    type: str = INVALID
    code: str | None = None
    param: str | None = None
    retry_after_seconds: float | None = None
    headers: tuple[tuple[bytes, bytes], ...] = ()

    @property
    def error(self) -> dict[str, Any]:
        """The body as an object."""
        return {
            "error": {
                "message": self.message,
                "type": self.type,
                "param": self.param,
                "code": self.code,
            }
        }

    @property
    def body(self) -> bytes:
        """The body."""
        return json.dumps(self.error).encode()

    @property
    def retry_after(self) -> int | None:
        """The header's value."""
        if self.retry_after_seconds is None:
            return None
        return min(_LONGEST_RETRY_SECONDS, max(1, math.ceil(self.retry_after_seconds)))

    async def send(self, send: Send) -> None:
        """Answer with this refusal."""
        extra = list(self.headers)
        if self.retry_after is not None:
            extra.append((b"retry-after", b"%d" % self.retry_after))
        await send_json(send, self.status, self.body, extra)


async def send_json(
    send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    """Answer with a complete JSON body."""
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                (b"content-type", b"application/json"),
                (b"content-length", b"%d" % len(body)),
                *(headers or []),
            ],
        }
    )
    await send({"type": "http.response.body", "body": body, "more_body": False})


def shed(message: str, retry_after_seconds: float, *, closing: bool = False) -> Refusal:
    """503 of an instance that has no room or leaves; the front may ask another one."""
    return Refusal(
        503,
        message,
        type="server_error",
        code="overloaded",
        retry_after_seconds=retry_after_seconds,
        headers=(SHED_HEADER, (b"connection", b"close")) if closing else (SHED_HEADER,),
    )
