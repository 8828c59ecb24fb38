"""A closed loop of streams that costs its machine little, in a process of its own.

Run: python -m benchmarks.routing.closed_loop HOST PORT --streams 16 --seconds 20 --tokens 32
It prints one JSON list of (start, end) in seconds of the monotonic clock, one for each request that
ended. Each stream has one connection and sends its next request when the last one ends. Answers are
read by a bare asyncio protocol that looks for nothing but their end: parsed as a client's library
parses them, thousands of chunks a second would fill a core.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from itertools import count
from typing import cast

from benchmarks.routing.engines import MODEL

_END_OF_BODY = b"0\r\n\r\n"
_LIMIT_SECONDS = 120.0


class Stream(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.WriteTransport | None = None
        self._parts: list[bytes] = []
        self._tail = b""
        self._answer: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A stream's connection is open."""
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        """Keep a part, and look whether it is the last."""
        self._parts.append(data)
        self._tail = (self._tail + data)[-len(_END_OF_BODY) :]
        if self._tail == _END_OF_BODY and self._answer is not None and not self._answer.done():
            self._answer.set_result(b"".join(self._parts))

    def connection_lost(self, exc: Exception | None) -> None:
        """The other side closed."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionError("closed before the answer's end"))

    async def ask(self, request: bytes) -> bytes:
        """Send a request and return everything that came back.

        Raises:
            OSError: the connection was lost.
            TimeoutError: no end of the answer in time.
        """
        assert self._transport is not None, "the connection is open"
        self._parts, self._tail = [], b""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await asyncio.wait_for(self._answer, _LIMIT_SECONDS)


def request_bytes(host: str, number: int, tokens: int) -> bytes:
    """A chat completion of `tokens` tokens whose prompt shares no block with another."""
    body = json.dumps(
        {
            "model": MODEL,
            "messages": [{"role": "user", "content": f"{number:08d} " + "word " * 28}],
            "max_tokens": tokens,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def run(
    host: str, port: int, *, streams: int, seconds: float, tokens: int, first_number: int = 0
) -> list[tuple[float, float]]:
    """(start, end) of each request; `first_number` makes prompts that no earlier run has sent.

    Raises:
        RuntimeError: an answer was not what was asked for.
    """
    loop = asyncio.get_running_loop()
    end, numbers = time.monotonic() + seconds, count(first_number)
    done: list[tuple[float, float]] = []
    wanted = f'"completion_tokens":{tokens},'.encode()

    async def keep_asking() -> None:
        _, stream = await loop.create_connection(Stream, host, port)
        while (start := time.monotonic()) < end:
            answer = await stream.ask(request_bytes(host, next(numbers), tokens))
            if wanted not in answer:
                raise RuntimeError(f"not {tokens} tokens: {answer[:500]!r}")
            done.append((start, time.monotonic()))

    async with asyncio.TaskGroup() as group:
        for _ in range(streams):
            group.create_task(keep_asking())
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--streams", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--tokens", type=int, required=True)
    parser.add_argument("--first-number", type=int, default=0)
    args = parser.parse_args()
    import uvloop

    done = uvloop.run(
        run(
            args.host,
            args.port,
            streams=args.streams,
            seconds=args.seconds,
            tokens=args.tokens,
            first_number=args.first_number,
        )
    )
    json.dump(done, sys.stdout)


if __name__ == "__main__":
    main()
