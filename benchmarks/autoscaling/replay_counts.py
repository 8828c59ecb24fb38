"""The live controller against the simulator: the same load, instance counts beside each other.

Run: python -m benchmarks.autoscaling.replay_counts [--most 3] [--seconds 240] [--trace FILE]
     [--json FILE]                                                     `make bench-replay-counts`
     python -m benchmarks.autoscaling.replay_counts --recorded FILE    a run's JSON, judged anew

A local cluster of mock engines scales by the policy `latency` while a slice of the trace is
replayed against it, whose middle third comes at `--rise` times the rate. The simulator gets the
same arrivals, settings and step times, and the start time that the controller measured. How the two
are compared is in course.py. Exits with 1 unless the cluster's course is one that the simulator
takes at the cluster's looks: at least a tenth of the draws must agree at 95% of the decisions.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import ray

from benchmarks.autoscaling.__main__ import TRACE
from benchmarks.autoscaling.course import (
    LOOK_SECONDS,
    MOCK,
    SETTLE_SECONDS,
    START_SECONDS,
    TOKENS,
    TPOT_SECONDS,
    TTFT_SECONDS,
    Course,
    Wanted,
    judge,
    text_of,
)
from benchmarks.autoscaling.engine_kinds import UNLIMITED
from benchmarks.autoscaling.latency import percentiles
from benchmarks.autoscaling.live_looks import looks_of
from benchmarks.autoscaling.real_cluster import NAME, Answer, probe, replay, served
from benchmarks.autoscaling.replay import slice_of
from benchmarks.autoscaling.set_times import times_of
from rayserve_par.cli.connect import connect
from rayserve_par.control.live.records import ControlStatus
from rayserve_par.control.simulate.request import Arrival
from rayserve_par.control.simulate.trace import parse_trace

_POLL_SECONDS = 0.25
_LEAST_WITHIN = 0.1


def risen(arrivals: Sequence[Arrival], seconds: float, rise: float) -> tuple[Arrival, ...]:
    """Arrivals over `seconds`, the middle third at `rise` times the rate of the others."""
    span = arrivals[-1].seconds - arrivals[0].seconds
    third = seconds / 3
    # Of the slice's own time, the middle part takes `rise` times as much as each of the others.
    part = span / (2 + rise)

    def moved(at: float) -> float:
        if at <= part:
            return at * third / part
        if at <= part * (1 + rise):
            return third + (at - part) * third / (rise * part)
        return 2 * third + (at - part * (1 + rise)) * third / part

    return tuple(replace(one, seconds=moved(one.seconds - arrivals[0].seconds)) for one in arrivals)


def app_args(most: int) -> dict[str, Any]:
    """The config of the application."""
    return {
        "model": "tiny-llama",
        "layout": {"tp": 1},
        "workload": {
            "isl": 205,
            "osl": 28,
            "ttft_ms": 1e3 * TTFT_SECONDS,
            "tpot_ms": 1e3 * TPOT_SECONDS,
        },
        "autoscaling": {
            "policy": "latency",
            "min_replicas": 1,
            "max_replicas": most,
            "look_seconds": LOOK_SECONDS,
            "settle_seconds": SETTLE_SECONDS,
            "start_seconds": START_SECONDS,
        },
        "admission": UNLIMITED,
        "mock_engine": asdict(MOCK),
    }


async def _watched(
    url: str, arrivals: Sequence[Arrival]
) -> tuple[list[Answer], list[ControlStatus]]:
    """The answers, and every status that the controller wrote meanwhile, from the start on."""
    from rayserve_par.control.live import store

    looks: list[ControlStatus] = []
    running = asyncio.create_task(replay(url, arrivals, seed=7))
    while not running.done():
        for one in store.read_statuses():
            if one.app == NAME and (not looks or looks[-1].seconds != one.seconds):
                looks.append(one)
        await asyncio.sleep(_POLL_SECONDS)
    return await running, looks


def run_course(args: argparse.Namespace) -> Course:
    """Start the cluster, replay, and keep what it did."""
    trace = parse_trace(args.trace.read_text(encoding="utf-8"), str(args.trace))
    count = int(args.rate * args.seconds * (2 + args.rise) / 3)
    arrivals = risen(
        slice_of(trace, 600.0, count, TOKENS, MOCK.max_model_len), args.seconds, args.rise
    )
    with (
        tempfile.TemporaryDirectory() as name,
        served(app_args(args.most), args.most, Path(name), scales=True) as url,
    ):
        connect(None)
        try:
            times = times_of(MOCK, asyncio.run(probe(url, [(1, 1, 32), (1, 1, 256)], rounds=3)))
            zero = time.time()
            answers, statuses = asyncio.run(_watched(url, arrivals))
        finally:
            ray.shutdown()  # before the cluster ends: Ray ends a process whose cluster is gone
    begin = int(zero)
    return Course(
        most=args.most,
        zero=zero,
        start_seconds=statuses[-1].start_seconds,
        times=times,
        arrivals=arrivals,
        looks=tuple(looks_of(statuses, zero)),
        wanted=tuple(
            Wanted(one.seconds - begin, one.wanted, one.ready)
            for one in statuses
            if one.seconds >= begin
        ),
        latency=percentiles(
            [one.ttft_seconds for one in answers], [one.tpot_seconds for one in answers]
        ),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--most", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=240.0)
    parser.add_argument("--rise", type=float, default=4.0)
    parser.add_argument("--rate", type=float, default=1.0, help="requests a second outside it")
    parser.add_argument("--trace", type=Path, default=TRACE)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--recorded", type=Path)
    args = parser.parse_args()
    if args.recorded:
        course = Course.from_object(json.loads(args.recorded.read_text(encoding="utf-8")))
    else:
        course = run_course(args)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(course.as_object()), encoding="utf-8")
    found = judge(course)
    print(text_of(course, found))
    sys.exit(found.within < _LEAST_WITHIN)


if __name__ == "__main__":
    main()
