"""A real local cluster that serves a model, and a client that replays arrivals against it.

Prompts are token ids drawn at random, so that lengths are exact and no two share a block of the
prefix cache. A request's TTFT is from its sending to its first token's arrival at the client.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp
import yaml

from benchmarks.autoscaling.set_times import Probe
from rayserve_par.cli.local.ports import HOST, free_ports
from rayserve_par.control.simulate.request import Arrival

NAME = "replayed"
_START_SECONDS = 400.0
_STOP_SECONDS = 60.0
_LIMIT_SECONDS = 300.0
_FIRST_TOKEN, _LAST_TOKEN = 10, 300


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a request; `late_seconds` is how much later than planned it was sent.

    `token_seconds` are its tokens' arrivals, on the clock of its replay.
    """

    ttft_seconds: float
    tpot_seconds: float
    late_seconds: float
    token_seconds: tuple[float, ...] = ()


@contextmanager
def served(
    args: Mapping[str, Any], instances: int, folder: Path, *, scales: bool = False
) -> Iterator[str]:
    """`rayserve-par serve` of `args` with so many instances of one GPU; inside, its URL.

    With `scales` so many GPUs, and as many instances as `args` let the controller want.

    Raises:
        RuntimeError: it does not come up; with what it printed last.
    """
    (port,) = free_ports(1)
    number = {} if scales else {"num_replicas": instances}
    config = {
        "proxy_location": "HeadOnly",
        "http_options": {"host": HOST, "port": port},
        "applications": [
            {
                "name": NAME,
                "route_prefix": "/",
                "import_path": "rayserve_par:build_app",
                "args": {**args, **number, "served_model_name": NAME},
            }
        ],
    }
    file, log = folder / "config.yaml", folder / "serve.log"
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    command = [sys.executable, "-m", "rayserve_par.cli.main", "serve", str(file)]
    command += ["--port", str(port), "--nodes", "1", "--gpus-per-node", str(instances)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        _wait_until_serving(process, log)
        yield f"http://{HOST}:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_serving(process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _START_SECONDS
    while True:
        text = log.read_text(errors="replace")
        if "Serving until Ctrl-C" in text:
            return
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"the cluster does not serve:\n{text[-3000:]}")
        time.sleep(0.2)


async def probe(url: str, groups: Sequence[tuple[int, int, int]], rounds: int) -> list[Probe]:
    """Send groups of (at once per instance, instances, ISL) requests and take medians."""
    found = []
    draw = random.Random(1)
    async with _session() as session:
        await _ask(session, url, _prompt(draw, 32), 8)  # the first request of all is slower
        for at_once, instances, isl in groups:
            answers: list[Answer] = []
            for _ in range(rounds):
                asked = [
                    _ask(session, url, _prompt(draw, isl), 24) for _ in range(at_once * instances)
                ]
                answers += await asyncio.gather(*asked)
                await asyncio.sleep(1.0)  # the front asks its engines twice a second
            found.append(
                Probe(
                    at_once,
                    isl,
                    median(one.ttft_seconds for one in answers),
                    median(one.tpot_seconds for one in answers),
                )
            )
    return found


async def replay(url: str, arrivals: Sequence[Arrival], seed: int) -> list[Answer]:
    """Send every arrival at its time.

    Raises:
        RuntimeError: a request failed; a replay with failures says nothing about latency.
    """
    draw = random.Random(seed)
    prompts = [_prompt(draw, one.isl) for one in arrivals]
    async with _session() as session:
        zero = time.perf_counter()

        async def at(arrival: Arrival, prompt: list[int]) -> Answer:
            await asyncio.sleep(max(0.0, arrival.seconds - (time.perf_counter() - zero)))
            late = time.perf_counter() - zero - arrival.seconds
            answer = await _ask(session, url, prompt, arrival.osl)
            tokens = tuple(one - zero for one in answer.token_seconds)
            return replace(answer, late_seconds=late, token_seconds=tokens)

        pairs = zip(arrivals, prompts, strict=True)
        return await asyncio.gather(*(at(one, prompt) for one, prompt in pairs))


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=_LIMIT_SECONDS),
    )


def _prompt(draw: random.Random, tokens: int) -> list[int]:
    return [draw.randint(_FIRST_TOKEN, _LAST_TOKEN) for _ in range(tokens)]


async def _ask(
    session: aiohttp.ClientSession, url: str, prompt: Sequence[int], tokens: int
) -> Answer:
    body = {
        "model": NAME, "prompt": list(prompt), "max_tokens": tokens, "temperature": 0.0,
        "ignore_eos": True, "stream": True,
    }  # fmt: skip
    sent = time.perf_counter()
    seen: list[float] = []
    async with session.post(f"{url}/v1/completions", json=body) as answer:
        if answer.status != 200:
            raise RuntimeError(f"HTTP {answer.status}: {(await answer.text())[:500]}")
        async for line in answer.content:
            if line.startswith(b"data: {"):
                if "error" in json.loads(line[6:]):
                    raise RuntimeError(f"the stream broke: {line!r}")
                seen.append(time.perf_counter())
            elif line.startswith(b"data: [DONE]") and seen:
                each = (seen[-1] - seen[0]) / (tokens - 1) if tokens > 1 else 0.0
                return Answer(seen[0] - sent, each, 0.0, tuple(seen))
    raise RuntimeError("the stream was cut")


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0))
