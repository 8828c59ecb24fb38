"""Whether a model that has more than it needs gives one instance up for one that misses its target.

    spare      instances that its policy keeps only because a scale-up was recent: fewer would have
               held with margin over the whole look-back
    for        the first in line (share.py) that its policy says will miss the target, and that has
               found no room for `WAIT_SECONDS`; of the same or a higher priority
    only if    that one's next instance fits then, whichever instance Serve stops; and not while
               what ends already makes as much room

One at a time: what was given up must have gone before the next is asked for. Who gives: the lowest
priority, then the most to spare, then by name. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rayserve_par.control.decide.share import PATIENCE_SECONDS, Wish, shares
from rayserve_par.placement.fit import NodeState

WAIT_SECONDS = 10.0
# GPUs by node id that one instance holds.
Place = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Holding:
    """What a model with `spare` instances holds."""

    wish: Wish
    spare: int
    places: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class GiveUp:
    """`app` gives one instance up for `taker`."""

    app: str
    taker: str
    note: str


def give_up(
    nodes: Sequence[NodeState],
    wishes: Sequence[Wish],
    missing_target: Sequence[str],
    holdings: Sequence[Holding],
    leaving: Sequence[Place] = (),
    patience_seconds: float = PATIENCE_SECONDS,
) -> GiveUp | None:
    """Who gives one up and for whom, if anybody; `leaving` is held by instances that end.

    `missing_target` are the models whose prediction misses with what they have.
    """
    now = shares(nodes, wishes, patience_seconds)
    waiting = [
        one
        for one in sorted(wishes, key=lambda one: (-one.priority, -one.waited_seconds, one.app))
        if now[one.app].missing and one.app in missing_target and one.waited_seconds >= WAIT_SECONDS
    ]
    for taker in waiting:

        def helps(places: Sequence[Place], taker: Wish = taker) -> bool:
            then = shares(freed_by(nodes, places), wishes, patience_seconds)
            return then[taker.app].given > now[taker.app].given

        if leaving and helps(leaving):
            return None
        for giver in sorted(
            holdings, key=lambda one: (one.wish.priority, -one.spare, one.wish.app)
        ):
            may = giver.wish.app != taker.app and giver.wish.priority <= taker.priority
            if (
                may
                and giver.spare > 0
                and giver.places
                and all(helps([one]) for one in _distinct(giver.places))
            ):
                left = giver.wish.have - 1
                note = (
                    f"{left} {'holds' if left == 1 else 'hold'} with margin; one of "
                    f"{giver.wish.have} given up for {taker.words}, which misses its target with "
                    f"{taker.have} of {taker.wanted}"
                )
                return GiveUp(giver.wish.app, taker.app, note)
    return None


def _distinct(places: Sequence[Place]) -> list[Place]:
    return list({tuple(sorted(one.items())): one for one in places}.values())


def freed_by(nodes: Sequence[NodeState], places: Sequence[Place]) -> list[NodeState]:
    """`nodes` once these are free; with a CPU each, on any of their nodes."""
    return [
        replace(
            node,
            gpus_free=min(
                node.gpus_total,
                node.gpus_free + sum(one.get(node.node_id, 0.0) for one in places),
            ),
            cpus_free=node.cpus_free + sum(node.node_id in one for one in places),
        )
        for node in nodes
    ]
