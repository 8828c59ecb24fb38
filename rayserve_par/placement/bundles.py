"""A layout as the bundles of one Ray placement group.

    one bundle = one TP group = {"GPU": tp}; bundle 0 also {"CPU": 1} for the replica's actor
    bundle of (DP rank, stage)   = dp_rank x pp + stage
    rank r of a DP rank's world: stage r // tp, TP rank r mod tp

Only where a TP group is wider than a node (an NVLink domain over nodes, as on NVL72) does it take
w = tp / GPUs per node bundles, one whole node each, all in one domain:

    bundle of (DP rank, stage, TP rank t) = (dp_rank x pp + stage) x w + t // GPUs per node

Strategies: STRICT_PACK where the instance fits one node, STRICT_SPREAD where each bundle has a
node of its own, else PACK. A bundle never spans nodes, so a TP group cannot split by itself. That
the w bundles of a wide one share a domain, no strategy of Ray says: fit.py counts by domains, and
verify.py refuses an instance whose group spans two.
"""

from dataclasses import dataclass
from typing import Literal

from rayserve_par.errors import RefusedError
from rayserve_par.planning.layout import Layout

Strategy = Literal["STRICT_PACK", "STRICT_SPREAD", "PACK"]


@dataclass(frozen=True, slots=True)
class Placement:
    """The placement group of one instance."""

    bundles: tuple[dict[str, float], ...]
    strategy: Strategy
    layout: Layout
    across_nodes: bool

    @property
    def gpus(self) -> float:
        """GPUs of all bundles."""
        return sum(bundle["GPU"] for bundle in self.bundles)

    @property
    def bundles_per_tp_group(self) -> int:
        """Bundles of one TP group: 1, or the nodes it takes where it is wider than a node."""
        return len(self.bundles) // self.layout.tp_groups

    @property
    def gpus_per_bundle(self) -> int:
        """GPUs of each bundle: all are alike."""
        return self.layout.tp // self.bundles_per_tp_group

    def bundle_of(self, dp_rank: int, rank: int) -> int:
        """The bundle of rank `rank` of DP rank `dp_rank`. Raises RefusedError outside."""
        return bundle_of_rank(
            self.layout, dp_rank, rank, bundles_per_tp_group=self.bundles_per_tp_group
        )

    def tp_group_of(self, bundle: int) -> int:
        """The TP group that `bundle` is (a part of)."""
        return bundle // self.bundles_per_tp_group


def _bundles_per_tp_group(layout: Layout, gpus_per_node: int, domain_gpus: int) -> int:
    if layout.tp <= gpus_per_node:
        return 1
    wide = f"{layout.label}: a TP group of {layout.tp} does not fit"
    if layout.tp > domain_gpus:
        place = (
            f"an NVLink domain of {domain_gpus}"
            if domain_gpus > gpus_per_node
            else f"a node of {gpus_per_node}"
        )
        limit = max(domain_gpus, gpus_per_node)
        raise RefusedError(f"{wide} {place} GPUs: {layout.tp} > {limit}. Use TP {limit} or less.")
    if layout.tp % gpus_per_node:
        whole = layout.tp // gpus_per_node * gpus_per_node
        raise RefusedError(
            f"{wide} whole nodes of {gpus_per_node} GPUs: {layout.tp} / {gpus_per_node} = "
            f"{layout.tp / gpus_per_node:g}. Use TP {whole} or {whole + gpus_per_node}."
        )
    return layout.tp // gpus_per_node


def placement_for(
    layout: Layout, *, across_nodes: bool, gpus_per_node: int, domain_gpus: int | None = None
) -> Placement:
    """The bundles and the strategy of one instance on nodes of `gpus_per_node`.

    `domain_gpus` is how many GPUs an NVLink domain joins (`NodeGroup.tp_limit`), at most those of
    a node if not given. Raises RefusedError where a TP group fits neither a node nor whole nodes
    of one domain.
    """
    parts = _bundles_per_tp_group(layout, gpus_per_node, domain_gpus or gpus_per_node)
    count = layout.tp_groups * parts
    bundles: list[dict[str, float]] = [{"GPU": float(layout.tp // parts)} for _ in range(count)]
    bundles[0]["CPU"] = 1.0
    strategy: Strategy = "PACK"
    if parts > 1 or (across_nodes and count > 1):
        strategy = "STRICT_SPREAD"
    elif layout.gpus <= gpus_per_node:
        strategy = "STRICT_PACK"
    return Placement(tuple(bundles), strategy, layout, strategy == "STRICT_SPREAD")


def stage_of_rank(layout: Layout, rank: int) -> int:
    """The PP stage of rank `rank` of a DP rank's world. Raises RefusedError outside it."""
    if not 0 <= rank < layout.ranks_per_dp_rank:
        raise RefusedError(
            f"rank {rank} is not in 0..{layout.ranks_per_dp_rank - 1} of {layout.label}."
        )
    return rank // layout.tp


def bundle_of_rank(
    layout: Layout, dp_rank: int, rank: int, *, bundles_per_tp_group: int = 1
) -> int:
    """The bundle of rank `rank` of DP rank `dp_rank`. Raises RefusedError outside the layout."""
    if not 0 <= dp_rank < layout.dp:
        raise RefusedError(f"DP rank {dp_rank} is not in 0..{layout.dp - 1} of {layout.label}.")
    group = dp_rank * layout.pp + stage_of_rank(layout, rank)
    part = rank % layout.tp * bundles_per_tp_group // layout.tp
    return group * bundles_per_tp_group + part
