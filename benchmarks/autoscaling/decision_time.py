"""How long one decision takes, by the number of instances. `make bench-decision`

Run: python -m benchmarks.autoscaling.decision_time [--instances 1 10 100 1000] [--rounds 20]

States of Llama-3.1-8B on H100 at 93% load over a history of 10 minutes, with queues on every
instance; the memory is that of a decision before, so that nothing is learned for the first time.
Exits with 1 if the median at 1,000 instances is 50 ms or more.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from statistics import median

from benchmarks.autoscaling.__main__ import CASES, TRACE, options_of
from rayserve_par.cli.simulate_inputs import make
from rayserve_par.control.decide.scale import ScalePolicy
from rayserve_par.control.decide.settings import Bounds, ScaleSettings
from rayserve_par.control.decide.state import InstanceState, LoadHistory, ModelState, Phase

BOUND_SECONDS = 0.05
_ISL, _OSL, _HISTORY = 2048.0, 28.0, 600
_LOAD = 0.93
_LARGE = 1000


def state_of(instances: int, requests_per_second: float, now: float) -> ModelState:
    """So many ready instances, each with a short queue, under this rate for ten minutes."""
    bins = (requests_per_second,) * _HISTORY
    return ModelState(
        now_seconds=now,
        instances=tuple(
            InstanceState(f"i{number}", Phase.READY, running=12, waiting=number % 5, kv_use=0.4)
            for number in range(instances)
        ),
        load=LoadHistory(now, 1.0, bins, tuple(one * _ISL for one in bins), _ISL, _OSL),
        start_seconds=60.0,
        room=instances,
    )


def seconds_of(policy: ScalePolicy, state: ModelState, rounds: int) -> list[float]:
    """Wall seconds of each of `rounds` decisions, two seconds apart on the state's own clock."""
    _, memory = policy.decide(state, None)
    took = []
    for number in range(1, rounds + 1):
        now = state.now_seconds + 2.0 * number
        later = replace(state, now_seconds=now, load=replace(state.load, end_seconds=now))
        began = time.perf_counter()
        _, memory = policy.decide(later, memory)
        took.append(time.perf_counter() - began)
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instances", type=int, nargs="+", default=[1, 10, 100, _LARGE])
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    constant = next(one for one in CASES if one.name.startswith("constant"))
    model = make(options_of(constant, TRACE)).workload.model
    rate = model.capacity(_ISL, _OSL).requests_per_second
    slow = []
    print("| instances | median | slowest |\n|---|---|---|")
    for instances in args.instances:
        policy = ScalePolicy(ScaleSettings(Bounds(1, 2 * instances)), model, 60.0)
        took = seconds_of(policy, state_of(instances, _LOAD * instances * rate, 1e4), args.rounds)
        print(f"| {instances:,} | {1e3 * median(took):.1f} ms | {1e3 * max(took):.1f} ms |")
        if instances >= _LARGE and median(took) >= BOUND_SECONDS:
            slow.append(instances)
    sys.exit(bool(slow))


if __name__ == "__main__":
    main()
