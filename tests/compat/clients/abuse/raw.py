"""One HTTP request over a bare socket, so that nothing corrects what is wrong with it."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from dataclasses import dataclass
from http.client import HTTPResponse
from typing import Any
from urllib.parse import urlsplit

from served import KEY, URL

LIMIT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; `seconds` from the end of the sending to the end of the answer."""

    status: int
    content_type: str
    body: bytes
    location: str
    seconds: float

    @property
    def error(self) -> dict[str, Any]:
        """The error of OpenAI's form."""
        error = json.loads(self.body)["error"]
        assert isinstance(error, dict)
        return error


def head(
    method: str,
    path: str,
    length: int | None,
    content_type: str | None = "application/json",
    more: tuple[str, ...] = (),
) -> bytes:
    """The head of a request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: front", f"Authorization: Bearer {KEY}", *more]
    if content_type is not None:
        lines.append(f"Content-Type: {content_type}")
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return ("\r\n".join([*lines, "Connection: close"]) + "\r\n\r\n").encode("latin-1")


def send(data: bytes) -> Answer:
    """Send `data` as it is and read one answer."""
    place = urlsplit(URL)
    assert place.hostname is not None
    with socket.create_connection((place.hostname, place.port or 80), LIMIT_SECONDS) as connection:
        # Refused while it is sent: the answer may be there already.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(data)
        sent = time.monotonic()
        response = HTTPResponse(connection)
        response.begin()
        body = response.read()
        seconds = time.monotonic() - sent
        header = response.getheader
        place_of, kind = header("Location", ""), header("Content-Type", "")
        return Answer(response.status, kind, body, place_of, seconds)


def fastest(data: bytes, times: int = 3) -> Answer:
    """The fastest of several answers: what else runs on the machine is not the server's."""
    answers = [send(data) for _ in range(times)]
    assert len({answer.status for answer in answers}) == 1
    return min(answers, key=lambda answer: answer.seconds)
