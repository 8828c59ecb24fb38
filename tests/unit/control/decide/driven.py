"""The policy over time, without engines: counts by the second in, what it decided out.

Work flows through the ready instances as a fluid; who starts is ready `start_seconds` later.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp
from random import Random

from rayserve_par.control.decide.scale import ScaleMemory, ScalePolicy
from rayserve_par.control.decide.state import InstanceState, LoadHistory, ModelState, Phase
from tests.unit.control.decide.states import FULL, ISL, OSL


@dataclass(frozen=True, slots=True)
class Change:
    """A decision that changed the number, `seconds` after the beginning."""

    seconds: int
    before: int
    after: int
    note: str


def poisson(mean: float, draw: Random) -> int:
    """Arrivals by chance: how many exponential gaps fit in one second."""
    if mean <= 0:
        return 0
    limit, product, count = exp(-mean), draw.random(), 0
    while product > limit:
        product *= draw.random()
        count += 1
    return count


def by_chance(loads: Sequence[float], seed: int) -> list[int]:
    """Requests by the second, Poisson around `loads` in instances' worth."""
    draw = Random(seed)
    return [poisson(one * FULL, draw) for one in loads]


def changes(
    policy: ScalePolicy,
    requests: Sequence[int],
    start_seconds: float,
    initial: int,
    look_seconds: int = 2,
) -> list[Change]:
    """Every change of the number of instances over these seconds."""
    found: list[Change] = []
    ready_at = [0.0] * initial
    memory: ScaleMemory | None = None
    backlog = 0.0
    kept = int(policy.history_seconds)
    for now in range(len(requests) + 1):
        ready = sum(one <= now for one in ready_at)
        if now:
            backlog = max(0.0, backlog + requests[now - 1] / FULL - ready)
        if not now or now % look_seconds:
            continue
        part = tuple(float(one) for one in requests[max(0, now - kept) : now])
        waiting = round(backlog * FULL / max(1, ready))
        state = ModelState(
            now_seconds=float(now),
            instances=tuple(
                InstanceState(f"i{n}", Phase.READY, 3, waiting)
                if one <= now
                else InstanceState(f"i{n}", Phase.STARTING, ready_seconds=one)
                for n, one in enumerate(ready_at)
            ),
            load=LoadHistory(float(now), 1.0, part, tuple(one * ISL for one in part), ISL, OSL),
            start_seconds=start_seconds,
        )
        decision, memory = policy.decide(state, memory)
        before, after = len(ready_at), decision.wanted
        if after != before:
            found.append(Change(now, before, after, f"{decision.reason}: {decision.note}"))
        if after < before:
            ready_at = sorted(ready_at)[:after]
        ready_at += [now + start_seconds] * (after - before)
    return found


def flaps(found: Sequence[Change], seconds: float) -> list[tuple[Change, Change]]:
    """Scale-ups with a scale-down within so many seconds after."""
    return [
        (up, down)
        for up in found
        for down in found
        if up.after > up.before
        and down.after < down.before
        and 0 < down.seconds - up.seconds <= seconds
    ]


def regrets(found: Sequence[Change], seconds: float) -> list[tuple[Change, Change]]:
    """Scale-downs with a scale-up within so many seconds after."""
    return [
        (down, up)
        for down in found
        for up in found
        if down.after < down.before
        and up.after > up.before
        and 0 < up.seconds - down.seconds <= seconds
    ]
