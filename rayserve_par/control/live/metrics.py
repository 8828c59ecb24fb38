"""Exports what the controller knows of each application, from the process that it runs in.

Which there are: `serving/metric_registry/controller.py`; docs/metrics.md explains them.

`rows_of` says what a status means in metrics, `changes` what happened since the one before, and
`ControlMetrics` hands both to Ray. What a status does not know, or predicts no end of, has no row:
its series ends instead of staying at an old value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from rayserve_par.control.live.records import ControlStatus
from rayserve_par.serving.metric_registry import CONTROLLER_METRICS
from rayserve_par.serving.ray_metrics import ray_metrics


@dataclass(frozen=True, slots=True)
class Row:
    """A metric's name without `rayserve_par_`, a value, and labels beyond application and model."""

    name: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)


def rows_of(status: ControlStatus) -> tuple[Row, ...]:
    """Every gauge of one status."""
    return (
        Row("control_info", 1, {"layout": status.layout, "mode": status.mode.value}),
        *(
            Row("instances", count, {"state": state})
            for state, count in (
                ("ready", status.ready),
                ("starting", status.starting),
                ("draining", status.draining),
            )
        ),
        *(
            Row(name, value)
            for name, value in _values(status).items()
            if value is not None and isfinite(value)
        ),
    )


def _values(status: ControlStatus) -> dict[str, float | None]:
    ages_seconds = [one.age_seconds for one in status.instances]
    return {
        "control_look_timestamp_seconds": status.seconds,
        "control_problems": len(status.problems),
        "control_oldest_report_seconds": max(ages_seconds, default=None),
        "control_decision_seconds": status.decision_seconds,
        "instances_wanted": status.wanted,
        "instances_decided": status.decided,
        "instances_least": status.least,
        "instances_most": status.most,
        "instances_room": status.room,
        "gpus_wanted": status.wanted * status.gpus_per_instance,
        "control_start_seconds": status.start_seconds,
        "control_load_requests_per_second": status.requests_per_second,
        "control_load_isl_tokens": status.isl,
        "control_load_osl_tokens": status.osl,
        "control_target_ttft_seconds": status.ttft_target_seconds,
        "control_target_tpot_seconds": status.tpot_target_seconds,
        "control_measured_ttft_seconds": status.ttft_seconds,
        "control_measured_tpot_seconds": status.tpot_seconds,
        "control_predicted_ttft_seconds": status.predicted_ttft_seconds,
        "control_predicted_tpot_seconds": status.predicted_tpot_seconds,
        "control_step_correction": status.correction,
    }


def changes(before: ControlStatus | None, status: ControlStatus) -> Iterator[Row]:
    """What is to be added to counters: the decision, and a change of the wanted number.

    A status of the same look as the one before counts once.
    """
    if before is not None and before.seconds == status.seconds:
        return
    yield Row("decisions_total", 1, {"reason": status.reason})
    if before is not None and before.wanted != status.wanted:
        direction = "up" if status.wanted > before.wanted else "down"
        yield Row("instance_changes_total", 1, {"direction": direction})


class ControlMetrics:
    """Ray's metrics of all applications of this process; make one."""

    def __init__(self) -> None:
        self._made: Mapping[str, Any] = ray_metrics(CONTROLLER_METRICS)
        self._latest: dict[str, ControlStatus] = {}

    def export(self, status: ControlStatus) -> None:
        """Export one application's status; to be called again at least every 5 s."""
        labels = {"application": status.app, "model": status.model}
        for row in rows_of(status):
            self._metric(row).set(row.value, tags={**labels, **row.labels})
        for row in changes(self._latest.get(status.app), status):
            self._metric(row).inc(row.value, tags={**labels, **row.labels})
        self._latest[status.app] = status

    def _metric(self, row: Row) -> Any:
        return self._made[f"rayserve_par_{row.name}"]
