"""A look at Serve as the state that the policy decides about. Pure.

ready      running replicas, as many as Serve aims at, whether they report or not
draining   those beyond that, and replicas that still end in order
starting   the number that Serve aims at, less those
"""

from __future__ import annotations

from collections.abc import Sequence

from rayserve_par.control.decide.state import (
    InstanceState,
    LoadHistory,
    Measured,
    ModelState,
    Phase,
)
from rayserve_par.control.live.view import ServeView


def model_state(
    view: ServeView,
    *,
    now_seconds: float,
    load: LoadHistory,
    measured: Measured,
    start_seconds: float,
    expected: Sequence[float],
    draining: int,
    room: int | None,
) -> ModelState:
    """Everything that is known, in the policy's terms; `expected` are ends of open starts."""
    instances = [
        _running(view, name, Phase.READY if index < view.target else Phase.DRAINING)
        for index, name in enumerate(view.running)
    ]
    for index in range(view.target - len(view.running)):
        ends = expected[index] if index < len(expected) else now_seconds + start_seconds
        instances.append(InstanceState(f"starting-{index + 1}", Phase.STARTING, ready_seconds=ends))
    instances += [
        InstanceState(f"draining-{index + 1}", Phase.DRAINING) for index in range(draining)
    ]
    return ModelState(
        now_seconds=now_seconds,
        instances=tuple(instances),
        load=load,
        start_seconds=start_seconds,
        held=round(view.held),
        measured=measured,
        room=room,
    )


def _running(view: ServeView, name: str, phase: Phase) -> InstanceState:
    report = view.reports.get(name)
    if report is None:
        return InstanceState(name, phase)
    latest = report.latest
    return InstanceState(name, phase, int(latest.running), int(latest.waiting), latest.kv_use)
