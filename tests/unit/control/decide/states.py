"""States to decide about, made of a few numbers; work in instances' worth of load."""

from collections.abc import Sequence

from rayserve_par.control.decide.state import (
    InstanceState,
    LoadHistory,
    ModelState,
    Phase,
)
from tests.unit.control.instances_of_llama import instance_model

ISL, OSL = 2048.0, 28.0
FULL = instance_model().capacity(ISL, OSL).requests_per_second


def history(loads: Sequence[float], end: float = 1000.0) -> LoadHistory:
    """`loads` by the second, in instances' worth."""
    requests = tuple(one * FULL for one in loads)
    return LoadHistory(end, 1.0, requests, tuple(one * ISL for one in requests), ISL, OSL)


def instances(
    ready: int, starting: int = 0, draining: int = 0, waiting: int = 0, now: float = 1000.0
) -> tuple[InstanceState, ...]:
    """Named r0, s0, d0...; every ready one has `waiting` requests in its queue."""
    return (
        *(InstanceState(f"r{n}", Phase.READY, 5, waiting) for n in range(ready)),
        *(
            InstanceState(f"s{n}", Phase.STARTING, ready_seconds=now + 30.0)
            for n in range(starting)
        ),
        *(InstanceState(f"d{n}", Phase.DRAINING, 2) for n in range(draining)),
    )


def state(
    loads: Sequence[float],
    ready: int,
    *,
    starting: int = 0,
    draining: int = 0,
    waiting: int = 0,
    held: int = 0,
    room: int | None = None,
    now: float = 1000.0,
    start_seconds: float = 60.0,
) -> ModelState:
    return ModelState(
        now_seconds=now,
        instances=instances(ready, starting, draining, waiting, now),
        load=history(loads, now),
        start_seconds=start_seconds,
        held=held,
        room=room,
    )


def flat(load: float, seconds: int = 600) -> list[float]:
    return [load] * seconds


def step(before: float, after: float, ago: int, seconds: int = 600) -> list[float]:
    """`after` for the last `ago` seconds."""
    return [before] * (seconds - ago) + [after] * ago


def ramp(start: float, end: float, seconds: int = 600) -> list[float]:
    return [start + (end - start) * n / (seconds - 1) for n in range(seconds)]
