"""The client of a benchmark, in a process of its own: N streams of chat completions at once.

Run: python -m benchmarks.front.load URL MODEL --streams 8 --requests 24 --seed 1
     --prompt-words 100 --output-tokens 32
It prints one JSON list, one object for each request. Each stream sends its next request when its
last one ends; with `--rate R` requests come by a Poisson process of R a second instead, at most
`--streams` at once, and waiting for a free stream counts as waiting. Prompts are random words by
seed, so no two share a prefix that a cache could keep beyond the chat template, and the same seed
gives both servers the same prompts. Each answer has exactly `--output-tokens` tokens
(`ignore_eos`); anything else is an error.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice

import aiohttp

from benchmarks.front.summary import Request

# Common words are one token each in SmolLM2; the chat template adds about 30.
_TEXT = """
time year people way day man thing woman life child world school state family student group country
problem hand part place case week company system program question work number night point home
water room mother area money story fact month lot right study book eye job word
"""
WORDS: Sequence[str] = tuple(_TEXT.split())
_LIMIT_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where and for how many tokens to ask."""

    url: str
    model: str
    output_tokens: int


def prompts(seed: int, words: int) -> Iterator[str]:
    """Endless different prompts of `words` words."""
    chosen = random.Random(seed)
    while True:
        yield " ".join(chosen.choices(WORDS, k=words))


def arrivals(seed: int, rate: float) -> Iterator[float]:
    """Seconds after the start at which requests come: Poisson of `rate` a second; all 0 if 0."""
    chosen = random.Random(seed)
    seconds = 0.0
    while True:
        if rate:
            seconds += chosen.expovariate(rate)
        yield seconds


async def ask(
    session: aiohttp.ClientSession, endpoint: Endpoint, prompt: str, start: float
) -> Request:
    """Send one streamed request and time it from `start`, by `time.perf_counter()`.

    Raises:
        RuntimeError: the answer is not a complete stream of `output_tokens` tokens.
    """
    url = endpoint.url
    body = {
        "model": endpoint.model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": endpoint.output_tokens,
        "ignore_eos": True,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    first_token, tokens = 0.0, 0
    async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
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
    if not first_token or tokens != endpoint.output_tokens:
        raise RuntimeError(f"{url}: {tokens} tokens instead of {endpoint.output_tokens}")
    return Request(start=start, first_token=first_token, end=end, output_tokens=tokens)


async def run(
    endpoint: Endpoint, asked: Sequence[tuple[float, str]], *, streams: int
) -> list[Request]:
    """Send prompts over `streams` streams, each when it is due (seconds after now) or later."""
    waiting = iter(asked)
    done: list[Request] = []
    begin = time.perf_counter()

    async def stream(session: aiohttp.ClientSession) -> None:
        for due_seconds, prompt in waiting:
            due = begin + due_seconds
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            start = due if due_seconds else time.perf_counter()
            done.append(await ask(session, endpoint, prompt, start))

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
    parser.add_argument("--rate", type=float, default=0.0, help="requests a second; 0: no pause")
    parser.add_argument("--at", type=float, default=0.0, help="start then, by time.monotonic()")
    args = parser.parse_args()
    asked = list(
        islice(
            zip(arrivals(args.seed, args.rate), prompts(args.seed, args.prompt_words), strict=True),
            args.requests,
        )
    )
    endpoint = Endpoint(args.url, args.model, args.output_tokens)
    time.sleep(max(0.0, args.at - time.monotonic()))
    done = asyncio.run(run(endpoint, asked, streams=args.streams))
    json.dump([asdict(request) for request in done], sys.stdout)


if __name__ == "__main__":
    main()
