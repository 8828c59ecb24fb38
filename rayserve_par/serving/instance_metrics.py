"""Metrics of one instance, exported on Ray's Prometheus endpoint (each name gets Ray's `ray_`).

| metric | type | unit, meaning |
|---|---|---|
| rayserve_par_plan_info | gauge | 1; the plan is in the labels layout, auto_layout, target |
| rayserve_par_instance_gpus | gauge | GPUs that the instance holds |
| rayserve_par_placement_verified | gauge | 1 when Ray's tables agree with the plan |
| rayserve_par_engine_start_seconds | gauge | seconds from the replica's start to the first token |
| rayserve_par_requests_total | counter | finished requests, by reason |
| rayserve_par_admission_total | counter | requests that reached the replica, by outcome |
| rayserve_par_in_flight | gauge | requests that admission has let through to the engine |
| rayserve_par_concurrency_limit | gauge | requests that it would let through at once |
| rayserve_par_ttft_seconds | histogram | time to first token, in the engine front |
| rayserve_par_tpot_seconds | histogram | mean time per output token after the first, by request |

All carry the labels model, instance_id (Serve's replica id) and node (Ray's node id). It is not
called `instance`, which Prometheus keeps for the address that it scrapes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ray.util.metrics import Counter, Gauge, Histogram

from rayserve_par.planning.plan import Plan
from rayserve_par.serving.admission.concurrency import AdaptiveLimit

FACTS_PERIOD_SECONDS = 5.0
LABELS = ("model", "instance_id", "node")
TTFT_BOUNDARIES_SECONDS = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0]
TPOT_BOUNDARIES_SECONDS = [0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0]


@dataclass(slots=True)
class InstanceMetrics:
    """The metric objects of one instance, with its labels already set."""

    requests: Counter
    ttft_seconds: Histogram
    tpot_seconds: Histogram
    plan_info: Gauge
    gpus: Gauge
    placement_verified: Gauge
    engine_start_seconds: Gauge
    admission: Counter
    in_flight: Gauge
    concurrency_limit: Gauge
    _exported_outcomes: dict[str, int] = field(default_factory=dict)

    def export_admission(self, outcomes: Mapping[str, int], limit: AdaptiveLimit) -> None:
        """Export what became of requests since the last call, and the limit now."""
        for outcome, count in outcomes.items():
            new = count - self._exported_outcomes.get(outcome, 0)
            if new:
                self.admission.inc(new, tags={"outcome": outcome})
        self._exported_outcomes = dict(outcomes)
        self.in_flight.set(limit.in_flight)
        self.concurrency_limit.set(limit.limit)

    def export_facts(self, plan: Plan, *, verified: bool, start_seconds: float) -> None:
        """Export what is fixed for the life of the instance.

        Ray drops a gauge that was not set since its last report, so this is to be called again at
        least every `FACTS_PERIOD_SECONDS`.
        """
        self.plan_info.set(
            1,
            tags={
                "layout": plan.layout.label,
                "auto_layout": plan.auto.label if plan.auto is not None else "",
                "target": plan.target.value,
            },
        )
        self.gpus.set(plan.layout.gpus)
        self.placement_verified.set(1 if verified else 0)
        self.engine_start_seconds.set(start_seconds)


def instance_metrics(model: str, instance: str, node: str) -> InstanceMetrics:
    """Make the metrics of one instance; call once per process."""
    labels = {"model": model, "instance_id": instance, "node": node}

    def gauge(name: str, text: str, *more: str) -> Gauge:
        metric = Gauge(f"rayserve_par_{name}", description=text, tag_keys=(*LABELS, *more))
        metric.set_default_tags(labels)
        return metric

    def histogram(name: str, text: str, boundaries: list[float]) -> Histogram:
        metric = Histogram(
            f"rayserve_par_{name}", description=text, boundaries=boundaries, tag_keys=LABELS
        )
        metric.set_default_tags(labels)
        return metric

    requests = Counter(
        "rayserve_par_requests_total",
        description="Finished requests by reason.",
        tag_keys=(*LABELS, "reason"),
    )
    requests.set_default_tags(labels)
    admission = Counter(
        "rayserve_par_admission_total",
        description="Requests that reached the replica, by outcome: ok, or why not.",
        tag_keys=(*LABELS, "outcome"),
    )
    admission.set_default_tags(labels)
    return InstanceMetrics(
        requests=requests,
        ttft_seconds=histogram(
            "ttft_seconds", "Time to first token in seconds.", TTFT_BOUNDARIES_SECONDS
        ),
        tpot_seconds=histogram(
            "tpot_seconds", "Mean time per output token in seconds.", TPOT_BOUNDARIES_SECONDS
        ),
        plan_info=gauge("plan_info", "1; the plan in labels.", "layout", "auto_layout", "target"),
        gpus=gauge("instance_gpus", "GPUs that the instance holds."),
        placement_verified=gauge(
            "placement_verified", "1 when Ray's tables agree with the plan, else 0."
        ),
        engine_start_seconds=gauge(
            "engine_start_seconds", "Seconds from the replica's start to the first token."
        ),
        admission=admission,
        in_flight=gauge("in_flight", "Requests let through to the engine."),
        concurrency_limit=gauge("concurrency_limit", "Requests let through at once at most."),
    )
