"""What a simulation came to, in the numbers that results give.

A request meets the target if it ended with TTFT and TPOT within the limits; one that was lost does
not. Percentiles are over those that got a first token (TTFT) or ended with two or more (TPOT).
Figures leave out the requests counted apart (unannounced.py); `all_requests` has everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from rayserve_par.control.simulate.request import Request
from rayserve_par.control.simulate.scenario import Scenario
from rayserve_par.control.simulate.simulator import Outcome

_PERCENTILES = (50, 95, 99)


@dataclass(frozen=True, slots=True)
class Latencies:
    """Attainment and percentiles of some requests; seconds, None where there are none."""

    requests: int
    lost: int
    attainment: float
    ttft: tuple[float | None, ...]
    tpot: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class ScaleEvent:
    """A decision that changed the number of instances."""

    seconds: float
    before: int
    after: int
    reason: str
    note: str


@dataclass(frozen=True, slots=True)
class Figures:
    """One policy's results."""

    name: str
    outside: Latencies
    everything: Latencies
    gpu_hours: float
    scale_events: tuple[ScaleEvent, ...]
    most_instances: int

    @property
    def requests(self) -> int:
        """All requests of the trace."""
        return self.everything.requests


def percentile(ordered: Sequence[float], percent: float) -> float | None:
    """The nearest-rank percentile of sorted values; None of none."""
    if not ordered:
        return None
    return ordered[max(0, ceil(percent / 100 * len(ordered)) - 1)]


def latencies(requests: Sequence[Request], scenario: Scenario) -> Latencies:
    """Attainment and percentiles of these requests; attainment of none is 1."""
    limits = scenario.ttft_limit, scenario.tpot_limit
    ttft = sorted(one.ttft_seconds for one in requests if one.ttft_seconds is not None)
    tpot = sorted(
        one.tpot_seconds for one in requests if one.osl > 1 and one.tpot_seconds is not None
    )
    met = sum(one.meets(*limits) for one in requests)
    return Latencies(
        requests=len(requests),
        lost=sum(one.lost is not None for one in requests),
        attainment=met / len(requests) if requests else 1.0,
        ttft=tuple(percentile(ttft, one) for one in _PERCENTILES),
        tpot=tuple(percentile(tpot, one) for one in _PERCENTILES),
    )


def figures_of(
    name: str, outcome: Outcome, scenario: Scenario, counted_apart: Sequence[bool]
) -> Figures:
    """All figures of one outcome."""
    outside = [one for one, left in zip(outcome.requests, counted_apart, strict=True) if not left]
    decided = dict(outcome.decisions)
    events, most = [], 0
    for one in outcome.samples:
        running = one.ready + one.starting
        most = max(most, running + one.draining)
        decision = decided[one.seconds]
        if decision.wanted != running:
            events.append(
                ScaleEvent(one.seconds, running, decision.wanted, decision.reason, decision.note)
            )
    return Figures(
        name=name,
        outside=latencies(outside, scenario),
        everything=latencies(outcome.requests, scenario),
        gpu_hours=outcome.gpu_seconds / 3600,
        scale_events=tuple(events),
        most_instances=most,
    )
