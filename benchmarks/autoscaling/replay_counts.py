"""The live controller against the simulator: the same load, instance counts beside each other.

Run: python -m benchmarks.autoscaling.replay_counts [--most 3] [--seconds 240] [--trace FILE]
     [--json FILE]                                                     `make bench-replay-counts`

A local cluster of mock engines scales by the policy `latency` while a slice of the trace is
replayed against it, whose middle third comes at `--rise` times the rate. The simulator gets the
same arrivals, settings and step times, and the start time that the controller measured.

Agreement is the share of the simulator's decisions for which the cluster wanted the same number of
instances within one interval before or after. Exits with 1 if it is below 95%.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import ray

from benchmarks.autoscaling.__main__ import TRACE
from benchmarks.autoscaling.real_cluster import NAME, probe, replay, served
from benchmarks.autoscaling.replay import UNLIMITED, measured, simulated_with, slice_of, table
from benchmarks.autoscaling.set_times import SetTimes, times_of
from rayserve_par.cli.connect import connect
from rayserve_par.control.decide.scale import ScalePolicy
from rayserve_par.control.decide.settings import Bounds, ScaleSettings
from rayserve_par.control.instance_model.capacity import InstanceModel
from rayserve_par.control.live.records import ControlStatus
from rayserve_par.control.simulate.engine import EngineLimits
from rayserve_par.control.simulate.request import Arrival
from rayserve_par.control.simulate.scenario import Scenario
from rayserve_par.control.simulate.trace import parse_trace
from rayserve_par.serving.mock_engine.times import EngineTimes

BOUND = 0.95
LOOK_SECONDS, SETTLE_SECONDS, START_SECONDS = 2.0, 30.0, 10.0
TTFT_SECONDS, TPOT_SECONDS = 2.0, 0.1
TOKENS = 0.1
_POLL_SECONDS = 0.25
# Short prompts at a slow prefill: one instance carries a few requests a second.
MOCK = EngineTimes(
    prefill_tokens_per_second=1000.0,
    step_base_seconds=0.02,
    step_seconds_per_sequence=0.001,
    max_num_seqs=64,
    max_num_batched_tokens=64,
    max_model_len=2048,
    enable_prefix_caching=False,
)
LIMITS = EngineLimits(MOCK.kv_tokens, MOCK.max_num_seqs, MOCK.max_num_batched_tokens)


@dataclass(frozen=True, slots=True)
class Wanted:
    """How many instances were wanted and ready at a moment, seconds since the replay's start."""

    seconds: float
    wanted: int
    ready: int


def agreement(cluster: Sequence[Wanted], simulator: Sequence[Wanted], interval: float) -> float:
    """See the module's docstring."""
    same = 0
    for one in simulator:
        near = {other.wanted for other in cluster if abs(other.seconds - one.seconds) <= interval}
        before = [other.wanted for other in cluster if other.seconds <= one.seconds]
        same += one.wanted in (near | set(before[-1:]))
    return same / len(simulator)


def changes(looks: Sequence[Wanted]) -> list[Wanted]:
    """The first look and those at which the number changed."""
    return [
        one for index, one in enumerate(looks) if not index or looks[index - 1].wanted != one.wanted
    ]


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


async def _watched(url: str, arrivals: Sequence[Arrival]) -> tuple[list[Any], list[ControlStatus]]:
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


def simulate_counts(
    arrivals: Sequence[Arrival], times: SetTimes, most: int, start_seconds: float
) -> tuple[list[Wanted], Any]:
    """What the simulator wants, and its percentiles."""
    bounds = Bounds(1, most)
    settings = ScaleSettings(bounds, look_seconds=LOOK_SECONDS, settle_seconds=SETTLE_SECONDS)
    model = InstanceModel(
        times,
        kv_tokens=LIMITS.kv_tokens,
        max_num_seqs=LIMITS.max_num_seqs,
        max_num_batched_tokens=LIMITS.max_num_batched_tokens,
        ttft_limit=TTFT_SECONDS,
        tpot_limit=TPOT_SECONDS,
    )
    scenario = Scenario(
        times=times,
        limits=LIMITS,
        gpus_per_instance=1,
        initial=1,
        most=most,
        start_seconds=start_seconds,
        duration_seconds=arrivals[-1].seconds,
        ttft_limit=TTFT_SECONDS,
        tpot_limit=TPOT_SECONDS,
    )
    policy = ScalePolicy(settings, model, start_seconds)
    found, outcome = simulated_with(arrivals, scenario, policy)
    return [Wanted(one.seconds, one.wanted, one.ready) for one in outcome.samples], found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--most", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=240.0)
    parser.add_argument("--rise", type=float, default=4.0)
    parser.add_argument("--rate", type=float, default=1.0, help="requests a second outside it")
    parser.add_argument("--trace", type=Path, default=TRACE)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
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
            answers, looks = asyncio.run(_watched(url, arrivals))
        finally:
            ray.shutdown()  # before the cluster ends: Ray ends a process whose cluster is gone
    cluster = [Wanted(one.seconds - zero, one.wanted, one.ready) for one in looks]
    started = looks[-1].start_seconds
    simulator, model = simulate_counts(arrivals, times, args.most, started)
    share = agreement(cluster, simulator, LOOK_SECONDS)
    print(f"{len(arrivals)} requests over {args.seconds:.0f} s; a start took {started:.1f} s")
    for label, those in (("cluster", cluster), ("simulator", simulator)):
        print(label, ", ".join(f"{one.seconds:.0f} s: {one.wanted}" for one in changes(those)))
    print(
        f"The same number within {LOOK_SECONDS:g} s at {share:.1%} of {len(simulator)} decisions."
    )
    print(table(measured(answers), model))
    if args.json:
        document = {
            "requests": len(arrivals), "seconds": args.seconds, "start_seconds": started,
            "agreement": share, "times": asdict(times),
            "cluster": [asdict(one) for one in cluster],
            "simulator": [asdict(one) for one in simulator],
            "latency": {"cluster": asdict(measured(answers)), "simulator": asdict(model)},
        }  # fmt: skip
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(document, indent=1), encoding="utf-8")
    sys.exit(share < BOUND)


if __name__ == "__main__":
    main()
