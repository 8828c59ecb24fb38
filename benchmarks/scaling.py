"""Throughput over 1, 2, 4 and 8 mock instances behind the real HAProxy. `make bench-scaling`

Run: python -m benchmarks.scaling [--instances 1 2 4 8] [--seconds 15] [--rounds 3] [--json FILE]

Closed loop, `STREAMS` streams for each instance, so that each has the same work at every size; the
routing is the default one, and no two prompts share a block.
    tokens per second = sum over requests of tokens * (part of its time within the window) / window
The window leaves out the first and last `EDGE_SECONDS`. Efficiency = throughput / (n * that of one
instance), medians over the rounds. The set times give the throughput that nobody can exceed:
    ideal = n * streams * tokens / (tokens * step + prefill of all the streams' prompts)
CPU is what engines, HAProxy and client used, in cores; where "machine" is near all of its cores,
they are the limit, and not the front. Exits with 1 if an efficiency is below 0.95.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from statistics import median

import psutil

from benchmarks.routing.engines import mock_engines
from benchmarks.routing.proxy import Proxy, haproxy
from rayserve_par.cli.local.ports import HOST
from rayserve_par.serving.mock_engine.times import EngineTimes

STREAMS = 16
TOKENS = 32
PROMPT_TOKENS = 33
EDGE_SECONDS = 3.0
TIMES = EngineTimes(step_base_seconds=0.05, answer_tokens=TOKENS)
BOUND = 0.95
# More than one cell sends; the engines live on, and must not know a later cell's prompts.
_CELL_PROMPTS = 1_000_000


@dataclass(frozen=True, slots=True)
class Cell:
    """One size, measured once; CPU in cores, `machine` of all processes of the machine."""

    tokens_per_second: float
    engines_cpu: float
    proxy_cpu: float
    client_cpu: float
    machine_cpu: float


def ideal_tokens_per_second(times: EngineTimes, instances: int) -> float:
    """What the set times allow."""
    steps = TOKENS * times.step_seconds(STREAMS, 0)
    prefill = STREAMS * PROMPT_TOKENS / times.prefill_tokens_per_second
    return instances * STREAMS * TOKENS / (steps + prefill)


def tokens_per_second(
    requests: Sequence[tuple[float, float]], tokens: int, start: float, end: float
) -> float:
    """Throughput within [start, end]; a request's tokens are spread evenly over its time."""
    total = sum(
        tokens * max(0.0, min(to, end) - max(since, start)) / (to - since) for since, to in requests
    )
    return total / (end - start)


def efficiency(cells: Mapping[int, Cell], instances: int) -> float:
    """Throughput against that of one instance times their number."""
    one = cells[min(cells)].tokens_per_second / min(cells)
    return cells[instances].tokens_per_second / (one * instances)


def over_rounds(cells: Sequence[Cell]) -> Cell:
    """The median of each figure."""
    return Cell(
        **{name: median(getattr(cell, name) for cell in cells) for name in asdict(cells[0])}
    )


def measure(proxy: Proxy, engine_pids: Sequence[int], seconds: float, first_number: int) -> Cell:
    """Load the instances behind `proxy` once, with prompts numbered from `first_number`."""
    port = proxy.url.rsplit(":", 1)[1]
    command = [sys.executable, "-m", "benchmarks.routing.closed_loop", HOST, port]
    command += ["--streams", str(STREAMS * len(engine_pids))]
    command += ["--seconds", str(seconds + 2 * EDGE_SECONDS), "--tokens", str(TOKENS)]
    command += ["--first-number", str(first_number)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as client:
        watched = [engine_pids, [proxy.pid], [client.pid]]
        time.sleep(EDGE_SECONDS)
        start, before = time.monotonic(), [_cpu_seconds(pids) for pids in watched]
        psutil.cpu_percent()
        time.sleep(seconds)
        end, after = time.monotonic(), [_cpu_seconds(pids) for pids in watched]
        machine = psutil.cpu_percent() / 100 * (psutil.cpu_count() or 1)
        printed, _ = client.communicate()
        if client.returncode:
            raise RuntimeError(f"the client ended with {client.returncode}")
    used = [(late - early) / (end - start) for early, late in zip(before, after, strict=True)]
    return Cell(
        tokens_per_second=tokens_per_second(json.loads(printed), TOKENS, start, end),
        engines_cpu=used[0],
        proxy_cpu=used[1],
        client_cpu=used[2],
        machine_cpu=machine,
    )


def _cpu_seconds(pids: Sequence[int]) -> float:
    times = [psutil.Process(pid).cpu_times() for pid in pids]
    return sum(time.user + time.system for time in times)


def table(cells: Mapping[int, Cell], cores: int) -> str:
    """Markdown."""
    lines = [
        "| instances | tokens/s | of linear | of the set times | engines | HAProxy | client "
        f"| machine (of {cores} cores) |",
        "|---" * 8 + "|",
    ]
    for instances, cell in cells.items():
        ideal = ideal_tokens_per_second(TIMES, instances)
        lines.append(
            f"| {instances} | {cell.tokens_per_second:.0f} | {efficiency(cells, instances):.1%} "
            f"| {cell.tokens_per_second / ideal:.1%} | {cell.engines_cpu:.2f} "
            f"| {cell.proxy_cpu:.2f} | {cell.client_cpu:.2f} | {cell.machine_cpu:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instances", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    sizes = sorted(args.instances)
    rounds: dict[int, list[Cell]] = {size: [] for size in sizes}
    cell_numbers = count()
    with (
        tempfile.TemporaryDirectory() as name,
        mock_engines(sizes[-1], TIMES, Path(name)) as engines,
    ):
        for number in range(args.rounds):
            for size in sizes:
                ports = [engine.port for engine in engines[:size]]
                with haproxy(ports, Path(name), {}) as proxy:
                    pids = [engine.pid for engine in engines[:size]]
                    cell = measure(proxy, pids, args.seconds, next(cell_numbers) * _CELL_PROMPTS)
                print(f"round {number + 1}, {size} instances: {cell}")
                rounds[size].append(cell)
    cells = {size: over_rounds(of_size) for size, of_size in rounds.items()}
    print(table(cells, psutil.cpu_count() or 1))
    if args.json:
        document = {
            "streams_per_instance": STREAMS,
            "tokens": TOKENS,
            "times": asdict(TIMES),
            "cells": {size: asdict(cell) for size, cell in cells.items()},
        }
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(document, indent=1), encoding="utf-8")
    missed = [size for size in sizes if efficiency(cells, size) < BOUND]
    if missed:
        print(f"Below {BOUND:.0%} of linear: {missed} instances.")
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
