"""Serve's context as our view of it, with the clock and the surroundings of a live controller."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from rayserve_par.control.live.book import Book
from rayserve_par.control.live.controller import LiveController
from rayserve_par.control.live.settings import LiveSettings
from rayserve_par.control.live.surroundings import Around, Surroundings
from rayserve_par.control.live.view import ARRIVALS, Reported, Samples, ServeView, reported
from rayserve_par.serving.instance_counters import REPORTED

logger = logging.getLogger("ray.serve")

# Serve's controller is one process, and calls the policies of all applications from one thread.
_BOOK = Book(time.monotonic)


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
                book=_BOOK,
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
                self._surroundings = Surroundings(
                    ctx.app_name, settings.placement, settings.gpu, _BOOK
                )
            return controller.number(
                str(ctx.app_name),
                target,
                lambda: view_of(ctx),
                self._around,
                self._surroundings.post,
            )
        except Exception:
            logger.exception("The scaling policy failed; the number of instances stays.")
            return target

    def _around(self) -> Around:
        return Around() if self._surroundings is None else self._surroundings.around


def view_of(ctx: Any) -> ServeView:
    """Ray's `AutoscalingContext` (release 2.60) in our words."""
    running = tuple(one.unique_id for one in ctx.running_replicas)
    latest: dict[str, dict[str, float]] = {name: {} for name in running}
    arrivals: dict[str, list[Samples]] = {name: [] for name in running}
    raw = ctx.raw_metrics or {}
    for key in REPORTED:
        for replica, series in raw.get(key, {}).items():
            values = latest.get(replica.unique_id)
            if series and values is not None:
                values[key] = series[-1].value
    for key in ARRIVALS:
        for replica, series in raw.get(key, {}).items():
            if replica.unique_id in arrivals:
                samples = [(one.timestamp, one.value) for one in series]
                arrivals[replica.unique_id].append(samples)
    found: dict[str, Reported] = {}
    for name in running:
        report = reported(latest[name], arrivals[name])
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
