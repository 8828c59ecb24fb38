"""Counts what the re-planner decides and changes, from the process that it runs in.

Which metrics there are: `serving/metric_registry/replanner.py`. What is carried out is counted when
it is done, so one that failed and was finished by a later look counts once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rayserve_par.control.decide.replan_events import ReplanEvent
from rayserve_par.control.live.metrics import Row
from rayserve_par.control.replanning.replanner import Outcome
from rayserve_par.serving.metric_registry import REPLANNER_METRICS
from rayserve_par.serving.ray_metrics import ray_metrics


def counts(outcome: Outcome) -> Iterator[Row]:
    """What is to be added to counters after one look at one application."""
    if outcome.event is not None:
        decision = outcome.event.decision
        yield Row(
            "replan_decisions_total",
            1,
            {
                "action": str(decision.action),
                "why": str(decision.why),
                "outcome": _outcome(outcome.event),
            },
        )
    done = outcome.decision
    if outcome.carried_out and done is not None and done.changes_layout:
        yield Row("layout_changes_total", 1, {"action": str(done.action)})


class ReplanMetrics:
    """Ray's metrics of all applications; make one in a process."""

    def __init__(self) -> None:
        self._made: Mapping[str, Any] = ray_metrics(REPLANNER_METRICS)

    def count(self, outcome: Outcome) -> None:
        """Add what one look at one application led to."""
        labels = {"application": outcome.app, "model": outcome.model}
        for row in counts(outcome):
            metric = self._made[f"rayserve_par_{row.name}"]
            metric.inc(row.value, tags={**labels, **row.labels})


def _outcome(event: ReplanEvent) -> str:
    if not event.decision.acts:
        return "nothing"
    return "carried_out" if event.carried_out else "advised"
