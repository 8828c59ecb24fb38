"""One study: the policy, the baselines and the oracle on the same arrivals and instances."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

from rayserve_par.control.decide.decision import Policy
from rayserve_par.control.decide.settings import Bounds
from rayserve_par.control.instance_model.capacity import Capacity, InstanceModel
from rayserve_par.control.simulate.baselines import best_of, label, settings_of
from rayserve_par.control.simulate.figures import Figures, Latencies, figures_of
from rayserve_par.control.simulate.oracle import Oracle, find_oracle, work_by_second
from rayserve_par.control.simulate.request import Arrival
from rayserve_par.control.simulate.scenario import Scenario
from rayserve_par.control.simulate.simulator import Outcome, simulate
from rayserve_par.control.simulate.unannounced import apart, steps_of
from rayserve_par.errors import RefusedError

Progress = Callable[[str], None]

_FIRST_SECONDS = 60
_FIRST_SHARE = 0.95


@dataclass(frozen=True)
class Workload:
    """Arrivals, the instances that serve them, and what is derived from both."""

    arrivals: tuple[Arrival, ...]
    scenario: Scenario
    model: InstanceModel
    bounds: Bounds

    def __post_init__(self) -> None:
        if not self.arrivals:
            raise RefusedError("there are no requests to simulate. Give a longer trace or scale.")

    @property
    def capacity(self) -> Capacity:
        """Of one instance at the mean lengths of all requests."""
        count = len(self.arrivals)
        isl = sum(one.isl for one in self.arrivals) / count
        osl = sum(one.osl for one in self.arrivals) / count
        return self.model.capacity(isl, osl)

    @property
    def work(self) -> list[float]:
        """Instance-seconds by the second."""
        return work_by_second(self.arrivals, self.capacity, ceil(self.scenario.duration_seconds))

    @property
    def steps(self) -> tuple[float, ...]:
        """Unannounced steps, in seconds."""
        return steps_of(self.work, self.scenario.start_seconds)

    @property
    def counted_apart(self) -> tuple[bool, ...]:
        """For each arrival whether it is counted apart."""
        return apart(self.arrivals, self.steps, self.scenario.start_seconds)


def with_first_instances(workload: Workload) -> Workload:
    """The same, beginning with as many instances as the first minute's mean load takes."""
    first = workload.work[:_FIRST_SECONDS]
    count = ceil(sum(first) / len(first) / _FIRST_SHARE)
    initial = workload.bounds.clamp(count)
    return replace(workload, scenario=replace(workload.scenario, initial=initial))


def run(
    workload: Workload, policy: Policy, progress: Callable[[float], None] | None = None
) -> tuple[Figures, Outcome]:
    """One policy on the workload."""
    outcome = simulate(workload.scenario, policy, workload.arrivals, progress)
    return figures_of(label(policy), outcome, workload.scenario, workload.counted_apart), outcome


def best_baseline(workload: Workload, asked: str, wanted: float, progress: Progress) -> Figures:
    """A baseline at the best of its settings."""
    results = []
    for policy in settings_of(asked, workload.bounds, workload.model):
        progress(label(policy))
        results.append(run(workload, policy)[0])
    return best_of(results, wanted)


def oracle_of(workload: Workload, wanted: float, progress: Progress) -> Oracle:
    """The oracle of the workload; it has to serve all requests, none counted apart."""
    scenario = workload.scenario

    def attainment(outcome: Outcome) -> float:
        met = sum(one.meets(scenario.ttft_limit, scenario.tpot_limit) for one in outcome.requests)
        return met / len(outcome.requests)

    return find_oracle(
        scenario,
        workload.arrivals,
        workload.capacity,
        least=workload.bounds.least,
        attainment=attainment,
        wanted=wanted,
        progress=progress,
    )


def document(
    workload: Workload,
    ours: Figures,
    baselines: Sequence[tuple[str, Figures]],
    oracle: Oracle | None,
) -> dict[str, Any]:
    """The results as JSON; keys are a promise to whoever reads them."""
    hours = None if oracle is None else oracle.outcome.gpu_seconds / 3600
    return {
        **_as_object(ours, hours),
        "steps_s": list(workload.steps),
        "baselines": {name: _as_object(figures, hours) for name, figures in baselines},
    }


def _as_object(figures: Figures, oracle_hours: float | None) -> dict[str, Any]:
    return {
        "policy": figures.name,
        "requests": figures.requests,
        "requests_counted_apart": figures.requests - figures.outside.requests,
        "slo_attainment": figures.outside.attainment,
        **_percentiles(figures.outside),
        "gpu_hours": figures.gpu_hours,
        "oracle_gpu_hours": oracle_hours,
        "most_instances": figures.most_instances,
        "scale_events": [
            {
                "seconds": one.seconds,
                "from": one.before,
                "to": one.after,
                "reason": one.reason,
                "note": one.note,
            }
            for one in figures.scale_events
        ],
        "all_requests": {
            "slo_attainment": figures.everything.attainment,
            "lost": figures.everything.lost,
            **_percentiles(figures.everything),
        },
    }


def _percentiles(found: Latencies) -> dict[str, float | None]:
    names = ("p50", "p95", "p99")
    ttft = {f"ttft_s_{name}": value for name, value in zip(names, found.ttft, strict=True)}
    tpot = {f"tpot_s_{name}": value for name, value in zip(names, found.tpot, strict=True)}
    return {**ttft, **tpot}
