"""The client of a benchmark, in a process of its own: N streams of chat completions at once.

Run: python -m benchmarks.front.load URL MODEL --streams 8 --requests 24 --seed 1
     --prompt-words 100 --output-tokens 32
It prints one JSON list, one object for each request. Each stream sends its next request when its
last one ends; with `--rate R` requests come by a Poisson process of R a second instead, at most
`--streams` at once, and waiting for a free stream counts as waiting. The same seed gives both
servers the same requests (`asked.py`). Each answer has exactly the tokens asked for
(`ignore_eos`), anything else is an error: `--output-tokens`, with `--spread 0.5` from half as many
to half as many more.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice

import aiohttp

from benchmarks.front.asked import Asked, arrivals, lengths, prompts
from benchmarks.front.summary import Request

_LIMIT_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to ask, for which model, and with which headers."""

    url: str
    model: str
    headers: Mapping[str, str] = field(default_factory=dict)


async def ask(
    session: aiohttp.ClientSession, endpoint: Endpoint, asked: Asked, start: float
) -> Request:
    """Send one streamed request and time it from `start`, by `time.perf_counter()`.

    Raises:
        RuntimeError: the answer is not a complete stream of `output_tokens` tokens.
    """
    url = endpoint.url
    body = {
        "model": endpoint.model,
        "messages": [{"role": "user", "content": asked.prompt}],
        "max_tokens": asked.output_tokens,
        "ignore_eos": True,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    first_token, tokens = 0.0, 0
    async with session.post(
        f"{url}/v1/chat/completions", json=body, headers=endpoint.headers
    ) as answer:
        if answer.status != 200:
            raise RuntimeError(f"{url}: HTTP {answer.status}: {await answer.text()}")
        async for line in answer.content:
            if not line.startswith(b"data: {"):
                continue
            chunk = json.loads(line[6:])
            # The first chunk brings the role alone; a token's text may be empty (half a character).
            is_token = chunk["choices"] and "role" not in chunk["choices"][0]["delta"]
            if not first_token and is_token:
                first_token = time.perf_counter()
            if chunk.get("usage"):
                tokens = chunk["usage"]["completion_tokens"]
    end = time.perf_counter()
    if not first_token or tokens != asked.output_tokens:
        raise RuntimeError(f"{url}: {tokens} tokens instead of {asked.output_tokens}")
    return Request(start=start, first_token=first_token, end=end, output_tokens=tokens)


async def run(endpoint: Endpoint, asked: Sequence[Asked], *, streams: int) -> list[Request]:
    """Send requests over `streams` streams, each when it is due (seconds after now) or later."""
    waiting = iter(asked)
    done: list[Request] = []
    begin = time.perf_counter()

    async def stream(session: aiohttp.ClientSession) -> None:
        for one in waiting:
            due = begin + one.due_seconds
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            start = due if one.due_seconds else time.perf_counter()
            done.append(await ask(session, endpoint, one, start))

    async with (
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=streams),
            timeout=aiohttp.ClientTimeout(total=_LIMIT_SECONDS),
        ) as session,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(streams):
            group.create_task(stream(session))
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("model")
    parser.add_argument("--streams", type=int, required=True)
    parser.add_argument("--requests", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--prompt-words", type=int, required=True)
    parser.add_argument("--output-tokens", type=int, required=True)
    parser.add_argument("--spread", type=float, default=0.0, help="of the tokens, 0 to 1")
    parser.add_argument("--headers", default="{}", help="JSON object, sent with each request")
    parser.add_argument("--rate", type=float, default=0.0, help="requests a second; 0: no pause")
    parser.add_argument("--at", type=float, default=0.0, help="start then, by time.monotonic()")
    args = parser.parse_args()
    drawn = map(
        Asked,
        arrivals(args.seed, args.rate),
        prompts(args.seed, args.prompt_words),
        lengths(args.seed, args.output_tokens, args.spread),
    )
    asked = list(islice(drawn, args.requests))
    endpoint = Endpoint(args.url, args.model, json.loads(args.headers))
    time.sleep(max(0.0, args.at - time.monotonic()))
    done = asyncio.run(run(endpoint, asked, streams=args.streams))
    json.dump([asdict(request) for request in done], sys.stdout)


if __name__ == "__main__":
    main()
