"""Whether instances of several layouts fit what is free on the nodes, all at once.

    pieces     STRICT_PACK one of all its GPUs, else one for each bundle, largest first
    a piece    goes to the node with the fewest free GPUs that holds it (best fit, as Ray does)
    STRICT_SPREAD   the nodes with the most free GPUs, one bundle each
    a TP group of w > 1 bundles     w nodes of the NVLink domain with the fewest such nodes left

Largest first is exact where the sizes of pieces divide each other (TP 1, 2, 4, 8), so that more
free GPUs never hold fewer; else it may say no to what could be. The piece with bundle 0 needs a CPU
as well; nodes are not exchanged for the sake of CPUs. Left out: memory and custom resources.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rayserve_par.placement.bundles import Placement, Strategy
from rayserve_par.placement.fit import NodeState


@dataclass(frozen=True, slots=True)
class Shape:
    """What one instance takes: so many bundles of so many GPUs each."""

    gpus_per_bundle: float
    bundles: int = 1
    strategy: Strategy = "STRICT_PACK"
    bundles_per_tp_group: int = 1

    @classmethod
    def of(cls, placement: Placement) -> Shape:
        """That of a placement."""
        return cls(
            placement.gpus_per_bundle,
            len(placement.bundles),
            placement.strategy,
            placement.bundles_per_tp_group,
        )

    @property
    def gpus(self) -> float:
        """GPUs of all bundles."""
        return self.gpus_per_bundle * self.bundles

    @property
    def largest_piece(self) -> float:
        """GPUs that one node must have."""
        return self.gpus if self.strategy == "STRICT_PACK" else self.gpus_per_bundle

    @property
    def words(self) -> str:
        """For people."""
        if self.bundles == 1 or self.strategy == "STRICT_PACK":
            return f"{self.gpus:g} {_gpus(self.gpus)} on one node"
        return f"{self.bundles} x {self.gpus_per_bundle:g} {_gpus(self.gpus_per_bundle)}"


@dataclass(slots=True)
class _Free:
    gpus: float
    cpus: float
    domain: str


class _Pool:
    """What is free, node by node; nodes with as many free GPUs lie together."""

    def __init__(self, nodes: Sequence[NodeState]) -> None:
        self._by_gpus: dict[float, list[_Free]] = {}
        for one in nodes:
            self._lay(_Free(one.gpus_free, one.cpus_free, one.nvlink_domain))

    def least(self, gpus: float, cpus: int) -> _Free | None:
        """The node with the fewest free GPUs that has these."""
        for count in sorted(self._by_gpus):
            if count >= gpus:
                for one in reversed(self._by_gpus[count]):
                    if one.cpus >= cpus:
                        return one
        return None

    def with_gpus(self, gpus: float) -> list[_Free]:
        """Every node that has so many, the most first."""
        counts = sorted((one for one in self._by_gpus if one >= gpus), reverse=True)
        return [one for count in counts for one in self._by_gpus[count]]

    def take(self, one: _Free, gpus: float, cpus: int) -> None:
        """From this node."""
        before = self._by_gpus[one.gpus]
        index = next(n for n in range(len(before) - 1, -1, -1) if before[n] is one)
        before.pop(index)
        one.gpus -= gpus
        one.cpus -= cpus
        self._lay(one)

    def _lay(self, one: _Free) -> None:
        self._by_gpus.setdefault(one.gpus, []).append(one)


def fit_together(nodes: Sequence[NodeState], shapes: Sequence[Shape]) -> bool:
    """Whether one instance of each of `shapes` fits what is free."""
    if sum(one.gpus for one in shapes) > sum(one.gpus_free for one in nodes):
        return False
    pool = _Pool(nodes)
    return all(_put(shape, pool) for shape in sorted(shapes, key=_order, reverse=True))


def fits_empty(nodes: Sequence[NodeState], shape: Shape) -> bool:
    """Whether one instance would fit if nothing ran on the nodes."""
    empty = [replace(one, gpus_free=one.gpus_total, cpus_free=float("inf")) for one in nodes]
    return fit_together(empty, [shape])


def _order(shape: Shape) -> tuple[float, bool, int]:
    return shape.largest_piece, shape.strategy == "STRICT_SPREAD", shape.bundles


def _put(shape: Shape, pool: _Pool) -> bool:
    if shape.bundles_per_tp_group > 1:
        return _put_wide(shape, pool)
    if shape.strategy == "STRICT_SPREAD":
        return _put_spread(shape, pool)
    pieces = 1 if shape.strategy == "STRICT_PACK" else shape.bundles
    return all(_put_piece(shape.largest_piece, int(index == 0), pool) for index in range(pieces))


def _put_piece(gpus: float, cpus: int, pool: _Pool) -> bool:
    node = pool.least(gpus, cpus)
    if node is not None:
        pool.take(node, gpus, cpus)
    return node is not None


def _put_spread(shape: Shape, pool: _Pool) -> bool:
    able = pool.with_gpus(shape.gpus_per_bundle)
    first = next((one for one in able if one.cpus >= 1), None)
    if first is None or len(able) < shape.bundles:
        return False
    others = [one for one in able if one is not first][: shape.bundles - 1]
    pool.take(first, shape.gpus_per_bundle, 1)
    for one in others:
        pool.take(one, shape.gpus_per_bundle, 0)
    return True


def _put_wide(shape: Shape, pool: _Pool) -> bool:
    width = shape.bundles_per_tp_group
    for group in range(shape.bundles // width):
        able = pool.with_gpus(shape.gpus_per_bundle)
        counts = Counter(one.domain for one in able)
        heads = {one.domain for one in able if one.cpus >= 1 or group}
        enough = [(n, name) for name, n in counts.items() if n >= width and name in heads]
        if not enough:
            return False
        _, domain = min(enough)
        own = sorted((one for one in able if one.domain == domain), key=lambda one: -one.cpus)
        for index, one in enumerate(own[:width]):
            pool.take(one, shape.gpus_per_bundle, int(index == 0 and group == 0))
    return True


def _gpus(count: float) -> str:
    return "GPU" if count == 1 else "GPUs"
