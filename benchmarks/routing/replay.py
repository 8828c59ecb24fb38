"""Replays a trace against a URL, in a process of its own.

Run: python -m benchmarks.routing.replay URL '{"seconds": 60, ...}' SEED [--sessions]
It prints one JSON list of (start in seconds since the trace's start, TTFT in seconds or null).
With --sessions each conversation names itself in `x-session-id`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from dataclasses import asdict

import aiohttp

from benchmarks.routing.engines import MODEL
from benchmarks.routing.figures import Asked
from benchmarks.routing.trace import Conversation, TraceShape, make_trace

_LIMIT_SECONDS = 120.0


class Replay:
    """One client; `asked` fills as the requests end."""

    def __init__(self, url: str, *, sessions: bool) -> None:
        self.asked: list[Asked] = []
        self._url = f"{url}/v1/chat/completions"
        self._sessions = sessions
        self._zero = time.perf_counter()

    @property
    def _now(self) -> float:
        return time.perf_counter() - self._zero

    async def run(self, trace: tuple[Conversation, ...]) -> None:
        """Hold all conversations, each from its start on."""
        self._zero = time.perf_counter()
        connector = aiohttp.TCPConnector(limit=0)
        limit = aiohttp.ClientTimeout(total=_LIMIT_SECONDS)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=limit) as session,
            asyncio.TaskGroup() as group,
        ):
            for conversation in trace:
                await asyncio.sleep(conversation.start_seconds - self._now)
                group.create_task(self._hold(session, conversation))

    async def _hold(self, session: aiohttp.ClientSession, conversation: Conversation) -> None:
        answers: list[str] = []
        headers = {"x-session-id": f"session-{conversation.number}"} if self._sessions else {}
        for turn in conversation.turns:
            body = {
                "model": MODEL,
                "messages": conversation.messages(answers),
                "max_tokens": turn.max_tokens,
                "stream": True,
            }
            start = self._now
            try:
                ttft, answer = await self._ask(session, body, headers)
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                print(f"failed: {error!r}", file=sys.stderr)
                self.asked.append(Asked(start, None))
                return
            self.asked.append(Asked(start, ttft))
            answers.append(answer)
            await asyncio.sleep(turn.think_seconds)

    async def _ask(
        self, session: aiohttp.ClientSession, body: object, headers: dict[str, str]
    ) -> tuple[float, str]:
        """(TTFT, whole text) of a complete stream.

        Raises:
            ValueError: the status is not 200, or the stream does not end as it should.
        """
        start = self._now
        first: float | None = None
        parts: list[str] = []
        async with session.post(self._url, json=body, headers=headers) as answer:
            if answer.status != 200:
                raise ValueError(f"HTTP {answer.status}: {await answer.text()}")
            async for line in answer.content:
                if line.startswith(b"data: {"):
                    part = json.loads(line[6:])["choices"][0]["delta"]["content"]
                    if part:
                        first = first or self._now - start
                        parts.append(part)
                elif line.startswith(b"data: [DONE]") and first is not None:
                    return first, "".join(parts)
        raise ValueError("the stream was cut")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("shape", type=json.loads)
    parser.add_argument("seed", type=int)
    parser.add_argument("--sessions", action="store_true")
    args = parser.parse_args()
    trace = make_trace(TraceShape(**args.shape), args.seed)
    replay = Replay(args.url, sessions=args.sessions)
    asyncio.run(replay.run(trace))
    json.dump([asdict(one) for one in replay.asked], sys.stdout)


if __name__ == "__main__":
    main()
