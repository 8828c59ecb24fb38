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

    def take(self, gpus: float, cpus: int) -> None:
        self.gpus -= gpus
        self.cpus -= cpus


def fit_together(nodes: Sequence[NodeState], shapes: Sequence[Shape]) -> bool:
    """Whether one instance of each of `shapes` fits what is free."""
    free = [_Free(one.gpus_free, one.cpus_free, one.nvlink_domain) for one in nodes]
    return all(_put(shape, free) for shape in sorted(shapes, key=_order, reverse=True))


def fits_empty(nodes: Sequence[NodeState], shape: Shape) -> bool:
    """Whether one instance would fit if nothing ran on the nodes."""
    empty = [replace(one, gpus_free=one.gpus_total, cpus_free=float("inf")) for one in nodes]
    return fit_together(empty, [shape])


def _order(shape: Shape) -> tuple[float, bool, int]:
    return shape.largest_piece, shape.strategy == "STRICT_SPREAD", shape.bundles


def _put(shape: Shape, free: list[_Free]) -> bool:
    if shape.bundles_per_tp_group > 1:
        return _put_wide(shape, free)
    if shape.strategy == "STRICT_SPREAD":
        return _put_spread(shape, free)
    pieces = 1 if shape.strategy == "STRICT_PACK" else shape.bundles
    return all(_put_piece(shape.largest_piece, int(index == 0), free) for index in range(pieces))


def _put_piece(gpus: float, cpus: int, free: list[_Free]) -> bool:
    able = [one for one in free if one.gpus >= gpus and one.cpus >= cpus]
    if able:
        min(able, key=lambda one: one.gpus).take(gpus, cpus)
    return bool(able)


def _put_spread(shape: Shape, free: list[_Free]) -> bool:
    able = [one for one in free if one.gpus >= shape.gpus_per_bundle]
    able.sort(key=lambda one: -one.gpus)
    first = next((one for one in able if one.cpus >= 1), None)
    if first is None or len(able) < shape.bundles:
        return False
    able.remove(first)
    first.take(shape.gpus_per_bundle, 1)
    for one in able[: shape.bundles - 1]:
        one.take(shape.gpus_per_bundle, 0)
    return True


def _put_wide(shape: Shape, free: list[_Free]) -> bool:
    width = shape.bundles_per_tp_group
    for group in range(shape.bundles // width):
        able = [one for one in free if one.gpus >= shape.gpus_per_bundle]
        counts = Counter(one.domain for one in able)
        heads = {one.domain for one in able if one.cpus >= 1 or group}
        enough = [(n, name) for name, n in counts.items() if n >= width and name in heads]
        if not enough:
            return False
        _, domain = min(enough)
        own = sorted((one for one in able if one.domain == domain), key=lambda one: -one.cpus)
        for index, one in enumerate(own[:width]):
            one.take(shape.gpus_per_bundle, int(index == 0 and group == 0))
    return True


def _gpus(count: float) -> str:
    return "GPU" if count == 1 else "GPUs"
