"""Serve's context as our view of it, with the clock and the surroundings of a live controller."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from rayserve_par.control.live.controller import LiveController
from rayserve_par.control.live.settings import LiveSettings
from rayserve_par.control.live.surroundings import Around, Surroundings
from rayserve_par.control.live.view import Reported, Samples, ServeView, reported
from rayserve_par.serving.instance_counters import REPORTED

logger = logging.getLogger("ray.serve")


class PolicyEdge:
    """One application's controller inside Ray Serve's. Nothing that fails here reaches Serve."""

    def __init__(self, kwargs: Mapping[str, Any]) -> None:
        self._controller: LiveController | None = None
        self._surroundings: Surroundings | None = None
        begun, steady = time.time(), time.monotonic()
        try:
            self._controller = LiveController(
                LiveSettings.from_kwargs(kwargs),
                clock=lambda: begun + (time.monotonic() - steady),
                watch=time.perf_counter,
            )
        except Exception:
            logger.exception("The scaling policy cannot be made; the number of instances stays.")

    def number(self, ctx: Any) -> int:
        """The number of replicas that Serve is to aim at."""
        target, controller = int(ctx.target_num_replicas), self._controller
        if controller is None:
            return target
        try:
            if self._surroundings is None:
                settings = controller.settings
                self._surroundings = Surroundings(ctx.app_name, settings.placement, settings.gpu)
            return controller.number(
                target, lambda: view_of(ctx), self._around, self._surroundings.post
            )
        except Exception:
            logger.exception("The scaling policy failed; the number of instances stays.")
            return target

    def _around(self) -> Around:
        return Around() if self._surroundings is None else self._surroundings.around


def view_of(ctx: Any) -> ServeView:
    """Ray's `AutoscalingContext` (release 2.60) in our words."""
    running = tuple(one.unique_id for one in ctx.running_replicas)
    by_replica: dict[str, dict[str, Samples]] = {name: {} for name in running}
    raw = ctx.raw_metrics or {}
    for key in REPORTED:
        for replica, series in raw.get(key, {}).items():
            if series and replica.unique_id in by_replica:
                by_replica[replica.unique_id][key] = [(one.timestamp, one.value) for one in series]
    found: dict[str, Reported] = {}
    for name, series_of_one in by_replica.items():
        report = reported(series_of_one)
        if report is not None:
            found[name] = report
    return ServeView(
        app=str(ctx.app_name),
        target=int(ctx.target_num_replicas),
        running=running,
        # Evaluated by Serve at each look that finds no replica running anyway.
        held=0.0 if running else float(ctx.total_num_requests),
        reports=found,
    )
