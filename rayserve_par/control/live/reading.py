"""Reads what is kept about applications' controllers from the store."""

from __future__ import annotations

from collections.abc import Iterable

from rayserve_par.control.live import store
from rayserve_par.control.live.overview import AppControl
from rayserve_par.control.live.told import ToldEvent, told_events
from rayserve_par.errors import RefusedError


def read_controls(apps: Iterable[str]) -> dict[str, AppControl]:
    """What is kept of these applications, by name. A log that cannot be read is said so there."""
    statuses = {one.app: one for one in store.read_statuses()}
    found = {}
    for app in apps:
        events: tuple[ToldEvent, ...] = ()
        unreadable = ""
        try:
            events = told_events(app, store.read_events(app))
        except RefusedError as refusal:
            unreadable = str(refusal)
        found[app] = AppControl(
            app, statuses.get(app), store.read_override(app), events, unreadable
        )
    return found


def controlled_apps() -> tuple[str, ...]:
    """Applications that ever had a controller, running or not."""
    return tuple(one.app for one in store.read_statuses())
