"""Forgets applications that are gone, and what their controllers write at the last moment.

A policy lives in Serve's controller and writes from a thread, and a re-planner's look that began
before an application was gone ends after it: either may write once more when all was forgotten.
So it is looked again until nothing has been written for `_QUIET_TURNS` turns.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from rayserve_par.control.live import store

_TURN_SECONDS = 1.0
_QUIET_TURNS = 3
_MOST_TURNS = 20


def forget_gone(
    apps: Collection[str],
    *,
    deployed: Callable[[], Collection[str]],
    wait: Callable[[float], None],
) -> tuple[str, ...]:
    """Forget `apps`, of which none is deployed; those that something still writes about at the end.

    One that is `deployed` again meanwhile is left alone from then on. `wait` takes seconds.
    """
    gone = set(apps)
    again = gone.intersection(store.decided_apps())
    for app in gone:
        store.forget(app)
    quiet = 0 if again else _QUIET_TURNS
    for _ in range(_MOST_TURNS):
        if quiet == _QUIET_TURNS:
            return ()
        wait(_TURN_SECONDS)
        gone -= set(deployed())
        again = gone.intersection(store.decided_apps())
        for app in again:
            store.forget(app)
        quiet = 0 if again else quiet + 1
    return tuple(sorted(again))
