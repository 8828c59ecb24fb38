"""Exports the metrics of one instance on Ray's Prometheus endpoint.

Which there are: `metric_registry/instance.py`; docs/metrics.md explains them. All carry the labels
model, instance_id (Serve's replica id) and node (Ray's node id). It is not called `instance`, which
Prometheus keeps for the address that it scrapes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rayserve_par.planning.plan import Plan
from rayserve_par.serving.admission.concurrency import AdaptiveLimit
from rayserve_par.serving.metric_registry import INSTANCE_METRICS
from rayserve_par.serving.ray_metrics import GAUGE_PERIOD_SECONDS, ray_metrics
from rayserve_par.serving.slo import EndedRequest, Slo
from rayserve_par.serving.stage_places import StagePlace

FACTS_PERIOD_SECONDS = GAUGE_PERIOD_SECONDS


@dataclass(slots=True)
class InstanceMetrics:
    """The metrics of one instance, with its labels already set; `made` has Ray's objects."""

    made: Mapping[str, Any]
    slo: Slo
    places: tuple[StagePlace, ...] = ()
    _counted: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    _exported_outcomes: dict[str, int] = field(default_factory=dict)
    _counted_until_seconds: float | None = None

    def record_first_token(self, ttft_seconds: float) -> None:
        """A request has its first token."""
        self._metric("ttft_seconds").observe(ttft_seconds)

    def record_ended(self, ended: EndedRequest) -> None:
        """The engine finished a request."""
        self._count("requests_total", "reason", ended.reason)
        if ended.tpot_seconds is not None:
            self._metric("tpot_seconds").observe(ended.tpot_seconds)
        outcome = self.slo.outcome(ended)
        if outcome is None:
            return
        self._count("slo_requests_total", "outcome", outcome.value)
        if ended.output_tokens:
            self._count("slo_output_tokens_total", "outcome", outcome.value, ended.output_tokens)

    def _count(self, name: str, label: str, value: str, amount: int = 1) -> None:
        self._counted[name, label, value] += amount

    def export_counts(self) -> None:
        """Hand over what was counted; to be called again every `FACTS_PERIOD_SECONDS`."""
        for (name, label, value), amount in self._counted.items():
            self._metric(name).inc(amount, tags={label: value})
        self._counted.clear()
        for name in ("ttft_seconds", "tpot_seconds"):
            self._metric(name).export()

    def export_admission(self, outcomes: Mapping[str, int], limit: AdaptiveLimit) -> None:
        """Export what became of requests since the last call, and the limit now."""
        for outcome, count in outcomes.items():
            new = count - self._exported_outcomes.get(outcome, 0)
            if new:
                self._metric("admission_total").inc(new, tags={"outcome": outcome})
        self._exported_outcomes = dict(outcomes)
        self._metric("in_flight").set(limit.in_flight)
        self._metric("concurrency_limit").set(limit.limit)

    def export_facts(
        self, plan: Plan, *, verified: bool, start_seconds: float, now_seconds: float
    ) -> None:
        """Export what is fixed for the life of the instance, and the GPU-seconds it took so far.

        To be called again at least every `FACTS_PERIOD_SECONDS`; `now_seconds` is of a clock that
        only goes forward.
        """
        auto = "" if plan.auto is None else plan.auto.label
        labels = {"layout": plan.layout.label, "auto_layout": auto, "target": plan.target.value}
        self._metric("plan_info").set(1, tags=labels)
        facts = {
            "plan_instances": plan.instances,
            "plan_ttft_seconds": plan.point.ttft_seconds,
            "plan_tpot_seconds": plan.point.tpot_seconds,
            "plan_requests_per_second": plan.point.requests_per_second,
            "instance_gpus": plan.layout.gpus,
            "placement_verified": 1 if verified else 0,
            "engine_start_seconds": start_seconds,
            "gpu_price_usd_per_hour": plan.node_group.gpu.price_per_hour_usd,
            "slo_ttft_seconds": self.slo.ttft_seconds,
            "slo_tpot_seconds": self.slo.tpot_seconds,
        }
        for name, value in facts.items():
            if value is not None:
                self._metric(name).set(value)
        for place in self.places:
            self._metric("stage_gpus").set(
                place.gpus,
                tags={
                    "dp_rank": str(place.dp_rank),
                    "stage": str(place.stage),
                    "node": place.node_id,
                },
            )
        self._count_gpu_seconds(plan.layout.gpus, start_seconds, now_seconds)

    def _count_gpu_seconds(self, gpus: int, start_seconds: float, now_seconds: float) -> None:
        since = self._counted_until_seconds
        held_seconds = start_seconds if since is None else now_seconds - since
        self._counted_until_seconds = now_seconds
        if held_seconds > 0:
            self._metric("gpu_seconds_total").inc(gpus * held_seconds)

    def _metric(self, name: str) -> Any:
        return self.made[f"rayserve_par_{name}"]


def instance_metrics(model: str, instance: str, node: str, slo: Slo) -> InstanceMetrics:
    """Make the metrics of one instance; call once per process."""
    labels = {"model": model, "instance_id": instance, "node": node}
    return InstanceMetrics(ray_metrics(INSTANCE_METRICS, labels), slo)
