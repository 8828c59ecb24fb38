"""TTFT and TPOT of requests that were replayed or simulated, beside each other."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import quantiles

from benchmarks.autoscaling.fit_to_replay import Latencies
from benchmarks.autoscaling.set_times import SetTimes
from rayserve_par.control.decide.baselines import Static
from rayserve_par.control.decide.decision import Policy
from rayserve_par.control.simulate.engine import EngineLimits
from rayserve_par.control.simulate.request import Arrival, Request
from rayserve_par.control.simulate.scenario import Scenario
from rayserve_par.control.simulate.simulator import Outcome, simulate


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Seconds."""

    ttft_p50: float
    ttft_p95: float
    tpot_p50: float
    tpot_p95: float


def percentiles(ttft: Sequence[float], tpot: Sequence[float]) -> Percentiles:
    first, later = (quantiles(one, n=20, method="inclusive") for one in (ttft, tpot))
    return Percentiles(first[9], first[18], later[9], later[18])


def simulated(
    arrivals: Sequence[Arrival], times: SetTimes, limits: EngineLimits, instances: int
) -> Percentiles:
    """What the simulator makes of the arrivals on so many instances."""
    return percentiles(*latencies(arrivals, times, limits, instances))


def latencies(
    arrivals: Sequence[Arrival], times: SetTimes, limits: EngineLimits, instances: int
) -> Latencies:
    """TTFT and TPOT of every request in simulation, on so many instances."""
    scenario = Scenario(
        times=times,
        limits=limits,
        gpus_per_instance=1,
        initial=instances,
        most=instances,
        interval_seconds=60.0,
        duration_seconds=arrivals[-1].seconds + 60.0,
    )
    requests = _ended(simulate(scenario, Static(instances), arrivals)).requests
    each = times.front_seconds_per_running / instances
    others = running_at_first_token(requests)
    ttft = [one.ttft_seconds or 0.0 for one in requests]
    return [seconds + each * running for seconds, running in zip(ttft, others, strict=True)], [
        one.tpot_seconds or 0.0 for one in requests
    ]


def running_at_first_token(requests: Sequence[Request]) -> list[int]:
    """How many others were between their first token and their last when each got its first."""
    firsts = [one.first_seconds or 0.0 for one in requests]
    begun = sorted(firsts)
    ended = sorted(one.end_seconds or 0.0 for one in requests)
    return [max(0, bisect_left(begun, at) - bisect_left(ended, at)) for at in firsts]


def simulated_with(
    arrivals: Sequence[Arrival], scenario: Scenario, policy: Policy
) -> tuple[Percentiles, Outcome]:
    """What the simulator makes of the arrivals under `policy`.

    Raises:
        RuntimeError: requests did not end.
    """
    outcome = _ended(simulate(scenario, policy, arrivals))
    ttft = [one.ttft_seconds or 0.0 for one in outcome.requests]
    return percentiles(ttft, [one.tpot_seconds or 0.0 for one in outcome.requests]), outcome


def _ended(outcome: Outcome) -> Outcome:
    ended = sum(one.tpot_seconds is not None for one in outcome.requests)
    if ended < len(outcome.requests):
        raise RuntimeError(
            f"{len(outcome.requests)} requests, and only {ended} ended in simulation"
        )
    return outcome


def off(real: float, simulated_value: float) -> float:
    """How far the simulator is off, as a share of the real value."""
    return simulated_value / real - 1


def table(real: Percentiles, model: Percentiles) -> str:
    """Markdown."""
    lines = ["| | cluster | simulator | off |", "|---|---|---|---|"]
    for name, label in (
        ("ttft_p50", "TTFT p50"), ("ttft_p95", "TTFT p95"),
        ("tpot_p50", "TPOT p50"), ("tpot_p95", "TPOT p95"),
    ):  # fmt: skip
        a, b = getattr(real, name), getattr(model, name)
        lines.append(f"| {label} | {1e3 * a:.1f} ms | {1e3 * b:.1f} ms | {off(a, b):+.1%} |")
    return "\n".join(lines)
