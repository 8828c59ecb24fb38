"""How many instances each of several models may start on the GPUs that they share.

The models stand in one line, instance by instance:

    1. what was asked of Ray already and has no place yet
    2. what is wanted beyond that, by priority, the highest first; within one priority always the
       instance of the model that has the least of what it wants,
           (have + in line before) / wanted        0 where nothing serves
       then of the one that has waited longest, then by name

What is given is the longest beginning of the line that fits what is free (packing.py). The line
does not depend on what is free, so more free GPUs never give any model fewer, equal wishes get
equally many to within one, and no small instance overtakes a large one for ever. That costs free
GPUs which stand idle behind a large one; so after `patience_seconds` it lets the others pass for as
long, then holds again, and so on. One that would not even fit the empty nodes lets all pass.

Priority is strict: who is to have something in any case gets `min_replicas`, which is asked of Ray
without this. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

from rayserve_par.errors import RefusedError
from rayserve_par.placement.fit import NodeState
from rayserve_par.placement.packing import Shape, fit_together, fits_empty

PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Wish:
    """One model: `have` instances are asked of Ray, `unplaced` of them have no GPUs yet.

    `waited_seconds` is how long its next instance has found no room.
    """

    app: str
    shape: Shape
    have: int
    wanted: int
    unplaced: int = 0
    priority: int = 0
    waited_seconds: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.unplaced <= self.have:
            raise RefusedError(f"{self.app}: {self.unplaced} of {self.have} without a place.")

    @property
    def asked(self) -> int:
        """More than it has."""
        return max(0, self.wanted - self.have)

    @property
    def words(self) -> str:
        """For people."""
        return f"{self.app} (priority {self.priority})"


@dataclass(frozen=True, slots=True)
class Share:
    """`given` of the `asked` may be started now; `note` says why not all of them."""

    asked: int
    given: int
    note: str = ""

    @property
    def missing(self) -> int:
        """Instances that have to wait."""
        return self.asked - self.given


def shares(
    nodes: Sequence[NodeState], wishes: Sequence[Wish], patience_seconds: float = PATIENCE_SECONDS
) -> dict[str, Share]:
    """What each model may start, by its name; `nodes` are those that all of them may use.

    Raises:
        RefusedError: two wishes of one model.
    """
    by_app = {one.app: one for one in wishes}
    if len(by_app) < len(wishes):
        raise RefusedError("a model has two wishes; give each one.")
    line = _line(wishes, sum(one.gpus_free for one in nodes))
    served, holder = _served(nodes, line, patience_seconds)
    given = Counter(wish.app for wish, new in served if new)
    return {
        one.app: Share(one.asked, given[one.app], _note(nodes, one, served, holder))
        for one in wishes
    }


_Line = list[tuple[Wish, bool]]


def _line(wishes: Sequence[Wish], gpus_free: float) -> _Line:
    """Instances in their order; True for those that are not asked of Ray yet.

    Nobody stands in it with more than one instance beyond what is free.
    """
    by_priority = sorted(wishes, key=lambda one: (-one.priority, -one.waited_seconds, one.app))
    line = [(one, False) for one in by_priority for _ in range(one.unplaced)]
    heap: list[tuple[int, float, float, str, int]] = []
    by_app = {one.app: one for one in wishes}

    def stand(one: Wish, number: int) -> None:
        if number < min(one.asked, gpus_free // one.shape.gpus + 1):
            least = (one.have + number) / one.wanted
            heappush(heap, (-one.priority, least, -one.waited_seconds, one.app, number))

    for one in wishes:
        stand(one, 0)
    while heap:
        *_, app, number = heappop(heap)
        line.append((by_app[app], True))
        stand(by_app[app], number + 1)
    return line


def _served(
    nodes: Sequence[NodeState], line: _Line, patience_seconds: float
) -> tuple[_Line, Wish | None]:
    """The part of the line that fits, and who holds up the rest."""
    while True:
        fits, misses = 0, len(line) + 1
        while misses - fits > 1:
            middle = (fits + misses) // 2
            ok = fit_together(nodes, [wish.shape for wish, _ in line[:middle]])
            fits, misses = (middle, misses) if ok else (fits, middle)
        if fits == len(line):
            return line, None
        first, _ = line[fits]
        turn = int(first.waited_seconds // patience_seconds)
        if turn % 2 == 0 and fits_empty(nodes, first.shape):
            return line[:fits], first
        line = [one for n, one in enumerate(line) if n < fits or one[0].app != first.app]


def _note(nodes: Sequence[NodeState], own: Wish, served: _Line, holder: Wish | None) -> str:
    given = sum(wish.app == own.app and new for wish, new in served)
    missing = own.asked - given
    if not missing:
        return ""
    free = sum(one.gpus_free for one in nodes)
    before = Counter(wish.app for wish, _ in served if wish.app != own.app)
    known = {wish.app: wish for wish, _ in served}
    why = [
        f"{known[app].words} came first with {count} x {known[app].shape.gpus:g}"
        for app, count in before.items()
    ]
    if own.unplaced:
        why.append(f"its own {own.unplaced} without a place came first")
    left = free - sum(wish.shape.gpus for wish, _ in served)
    if not fits_empty(nodes, own.shape):
        why.append(f"no node holds {own.shape.words}")
    elif holder is not None and holder.app != own.app and left:
        why.append(f"{holder.words} waits for {holder.shape.words} and holds what is left")
    elif own.shape.gpus > 1:
        why.append(f"it waits for {own.shape.words}")
    gpus = missing * own.shape.gpus
    return (
        f"wanted {own.wanted}, has {own.have}, {given} more given: "
        f"{', '.join([f'{_gpus(free)} free', *why])}; "
        f"missing {missing} x {own.shape.gpus:g} = {_gpus(gpus)}"
    )


def _gpus(count: float) -> str:
    return f"{count:g} {'GPU' if count == 1 else 'GPUs'}"
