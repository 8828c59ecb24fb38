"""Reads what is kept about applications' controllers from the store."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from rayserve_par.control.live import store
from rayserve_par.control.live.overview import AppControl
from rayserve_par.control.live.told import Told, in_order, told_events, told_replans
from rayserve_par.errors import RefusedError


def read_controls(apps: Iterable[str]) -> dict[str, AppControl]:
    """What is kept of these applications, by name. A log that cannot be read is said so there."""
    statuses = {one.app: one for one in store.read_statuses()}
    found = {}
    for app in apps:
        events: list[Told] = []
        unreadable = []
        for read in _LOGS:
            try:
                events += read(app)
            except RefusedError as refusal:
                unreadable.append(str(refusal))
        found[app] = AppControl(
            app,
            statuses.get(app),
            store.read_override(app),
            in_order(events),
            " ".join(unreadable),
        )
    return found


def read_decisions(apps: Iterable[str]) -> tuple[Told, ...]:
    """Every decision about these applications that is kept, of both logs, in order of time.

    Raises:
        RefusedError: a log cannot be read.
    """
    return in_order(one for app in apps for read in _LOGS for one in read(app))


def _scaling(app: str) -> tuple[Told, ...]:
    return told_events(app, store.read_events(app))


def _replans(app: str) -> tuple[Told, ...]:
    return told_replans(app, store.read_replan(app))


_LOGS: tuple[Callable[[str], tuple[Told, ...]], ...] = (_scaling, _replans)
