"""The live controller against the simulator: the same load, instance counts beside each other.

Run: python -m benchmarks.autoscaling.replay_counts [--most 3] [--seconds 240] [--trace FILE]
     [--json FILE]                                                     `make bench-replay-counts`

A local cluster of mock engines scales by the policy `latency` while a slice of the trace is
replayed against it, whose middle third comes at `--rise` times the rate. The simulator gets the
same arrivals, settings and step times, and the start time that the controller measured.

Agreement is the share of a simulation's decisions for which the cluster wanted the same number of
instances within one interval before or after. It is given three times:

at the cluster's looks   the simulator decides when the live controller did and knows as much of
                         the arrivals (live_looks.py). Exits with 1 if it is below 95%.
by itself                the simulator looks every interval from 0 on and knows all until then
looks drawn              looks fall anew, with ages in another order: of the cluster with each such
                         simulation, and of these with each other, which is what chance is worth
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
from itertools import pairwise, permutations
from pathlib import Path
from statistics import mean, median
from typing import Any

import ray

from benchmarks.autoscaling.__main__ import TRACE
from benchmarks.autoscaling.live_looks import AtLooks, Look, drawn_looks, looks_of
from benchmarks.autoscaling.real_cluster import NAME, Answer, probe, replay, served
from benchmarks.autoscaling.replay import (
    UNLIMITED,
    Percentiles,
    measured,
    simulated_with,
    slice_of,
    table,
)
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
_DRAWS = 20
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


def simulate_counts(
    arrivals: Sequence[Arrival],
    times: SetTimes,
    most: int,
    start_seconds: float,
    looks: Sequence[Look] = (),
) -> tuple[list[Wanted], Percentiles]:
    """What the simulator wants, by itself or at these looks, and its percentiles."""
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
    found, outcome = simulated_with(arrivals, scenario, AtLooks(policy, looks) if looks else policy)
    return [Wanted(one.seconds, one.wanted, one.ready) for one in outcome.samples], found


def from_second(arrivals: Sequence[Arrival], zero: float) -> tuple[Arrival, ...]:
    """On a clock that began with the second in which `zero` lies."""
    return tuple(replace(one, seconds=one.seconds + zero % 1) for one in arrivals)


def among_draws(
    cluster: Sequence[Wanted], drawn: Sequence[Sequence[Wanted]], interval: float
) -> tuple[list[float], list[float]]:
    """Agreements of the cluster with each simulation, and of each two of these."""
    with_cluster = [agreement(cluster, one, interval) for one in drawn]
    return with_cluster, [agreement(one, other, interval) for one, other in permutations(drawn, 2)]


def _shares(shares: Sequence[float]) -> str:
    return f"{mean(shares):.1%} ({min(shares):.1%} to {max(shares):.1%})"


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
            answers, statuses = asyncio.run(_watched(url, arrivals))
        finally:
            ray.shutdown()  # before the cluster ends: Ray ends a process whose cluster is gone
    looks = looks_of(statuses, zero)
    begun = from_second(arrivals, zero)
    cluster = [
        Wanted(one.seconds - int(zero), one.wanted, one.ready)
        for one in statuses
        if one.seconds >= int(zero)
    ]
    started = statuses[-1].start_seconds
    interval = max(LOOK_SECONDS, median(b.seconds - a.seconds for a, b in pairwise(looks)))
    at_looks, model = simulate_counts(begun, times, args.most, started, looks)
    at_looks = [one for one in at_looks if one.seconds >= looks[0].seconds]
    by_itself, _ = simulate_counts(begun, times, args.most, started)
    drawn = [
        simulate_counts(
            begun, times, args.most, started, drawn_looks(looks, started, begun[-1].seconds, seed)
        )[0]
        for seed in range(_DRAWS)
    ]
    share = agreement(cluster, at_looks, interval)
    alone = agreement(cluster, by_itself, interval)
    theirs, mutual = among_draws(cluster, drawn, interval)
    ages = [one.age_seconds for one in looks]
    print(
        f"{len(arrivals)} requests over {args.seconds:.0f} s; a start took {started:.1f} s; "
        f"{len(looks)} looks, {interval:.2f} s apart, at arrivals {mean(ages):.1f} s old "
        f"({min(ages):.1f} to {max(ages):.1f})"
    )
    for label, those in (
        ("cluster", cluster), ("simulator at its looks", at_looks), ("by itself", by_itself)
    ):  # fmt: skip
        print(label, ", ".join(f"{one.seconds:.0f} s: {one.wanted}" for one in changes(those)))
    print(
        f"The same number within {interval:.2f} s: at its looks {share:.1%} of {len(at_looks)} "
        f"decisions; by itself {alone:.1%}; looks drawn {_DRAWS} times {_shares(theirs)}, "
        f"and these with each other {_shares(mutual)}."
    )
    print(table(measured(answers), model))
    if args.json:
        document = {
            "requests": len(arrivals), "seconds": args.seconds, "start_seconds": started,
            "agreement": {"at_looks": share, "by_itself": alone, "drawn": theirs, "mutual": mutual},
            "zero": zero, "times": asdict(times), "looks": [asdict(one) for one in looks],
            "cluster": [asdict(one) for one in cluster],
            "at_looks": [asdict(one) for one in at_looks],
            "by_itself": [asdict(one) for one in by_itself],
            "latency": {"cluster": asdict(measured(answers)), "simulator": asdict(model)},
        }  # fmt: skip
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(document, indent=1), encoding="utf-8")
    sys.exit(share < BOUND)


if __name__ == "__main__":
    main()
