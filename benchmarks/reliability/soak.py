"""A steady mixed load for a long time: outcomes, and the memory of every class of processes.

Run: python -m benchmarks.reliability.soak [--minutes 60] [--json FILE]
Of the requests 60% are streams, 20% are answered in one piece, 15% are left by their clients in
the middle, 5% have to be refused. Exits with 1 on a request that was cut, failed or lost, and on a
class of processes whose memory certainly grows faster than the limit (from 30 minutes on).
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

import psutil
from rich.console import Console

from benchmarks.reliability.bench import start_bench
from benchmarks.reliability.exchange import ask_and_leave, ask_stream, ask_whole, ask_wrongly
from benchmarks.reliability.load import Load, Shape
from benchmarks.reliability.memory import (
    JUDGED_FROM_MINUTES,
    LIMIT_MIB_PER_HOUR,
    Growth,
    Sample,
    growths,
    process_class,
)
from benchmarks.reliability.outcome import Kind, Tally, tally
from benchmarks.reliability.scenario import STREAMS
from benchmarks.reliability.scenarios import two_instances

MIX = ((ask_stream, 0.6), (ask_whole, 0.2), (ask_and_leave, 0.15), (ask_wrongly, 0.05))
_SAMPLES = 360
_SHORTEST_PERIOD_SECONDS = 2.0
_READY_SECONDS = 300.0
_BAD = (Kind.CUT, Kind.FAILED, Kind.LOST)


def sample() -> Sample:
    """Resident bytes of the cluster's processes, which are all below this one."""
    rss: dict[str, int] = {}
    processes: dict[str, int] = {}
    for process in psutil.Process().children(recursive=True):
        try:
            name = process_class(process.name(), process.cmdline())
            if name is not None:
                rss[name] = rss.get(name, 0) + process.memory_info().rss
                processes[name] = processes.get(name, 0) + 1
        except psutil.NoSuchProcess:
            continue
    return Sample(time.monotonic(), rss, processes)


def watch(seconds: float, on_sample: Callable[[Sample], None]) -> list[Sample]:
    """Take samples for so long."""
    period = max(seconds / _SAMPLES, _SHORTEST_PERIOD_SECONDS)
    end = time.monotonic() + seconds
    samples = []
    while time.monotonic() < end:
        samples.append(sample())
        on_sample(samples[-1])
        time.sleep(period)
    return samples


def passed(counted: Tally, grown: Sequence[Growth], minutes: float) -> bool:
    """Whether nothing was cut, failed or lost, and nothing grows too much in a run long enough."""
    grows = minutes >= JUDGED_FROM_MINUTES and any(growth.too_much for growth in grown)
    return not any(counted[kind] for kind in _BAD) and not grows


def report(counted: Tally, left: int, grown: Sequence[Growth], minutes: float) -> dict[str, Any]:
    """Everything measured, for a file."""
    return {
        "minutes": minutes,
        **{kind.value: counted[kind] for kind in Kind},
        "left": left,
        "reasons": dict(counted.reasons),
        "limit_mib_per_hour": LIMIT_MIB_PER_HOUR,
        "growth": [{**asdict(growth), "too_much": growth.too_much} for growth in grown],
        "passed": passed(counted, grown, minutes),
    }


def run(console: Console, minutes: float, json_file: Path) -> bool:
    """Soak and print; whether it passed."""
    with start_bench(console) as bench:
        bench.deploy(two_instances())
        if not bench.wait_until_serving(_READY_SECONDS):
            raise RuntimeError("not every instance serves")
        with Load(bench.url, bench.model, STREAMS, Shape(mix=MIX)) as load:
            samples = watch(minutes * 60, lambda _: load.raise_error())
            requests = load.finish()
    counted, grown = tally(requests), growths(samples)
    document = report(counted, load.left, grown, minutes)
    json_file.parent.mkdir(parents=True, exist_ok=True)
    json_file.write_text(f"{json.dumps(document, indent=2)}\n", encoding="utf-8")
    for kind in Kind:
        console.print(f"{kind.value}: {counted[kind]}")
    console.print(f"left by their clients: {load.left}")
    for why, count in sorted(counted.reasons.items()):
        console.print(f"  {count} {why}", markup=False)
    for growth in grown:
        console.print(f"{'GROWS ' if growth.too_much else 'steady'} {growth}", markup=False)
    console.print(f"limit: {LIMIT_MIB_PER_HOUR:g} MiB/h for each class of processes")
    if minutes < JUDGED_FROM_MINUTES:
        console.print(f"Slopes are not judged in less than {JUDGED_FROM_MINUTES:g} minutes.")
    return passed(counted, grown, minutes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--json", type=Path, default=Path("build/soak.json"))
    args = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    console = Console(highlight=False)
    try:
        good = run(console, args.minutes, args.json)
    except KeyboardInterrupt:
        console.print("Stopped.")
        sys.exit(130)
    sys.exit(0 if good else 1)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
