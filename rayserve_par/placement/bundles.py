"""A layout as the bundles of one Ray placement group.

    one bundle = one TP group = {"GPU": tp}; bundle 0 also {"CPU": 1} for the replica's actor
    bundle of (dp_rank, stage)  = dp_rank x pp + stage
    rank r of a DP rank's world: stage r // tp, TP rank r mod tp

Strategies: STRICT_PACK where the instance fits one node, STRICT_SPREAD where each TP group has a
node of its own, else PACK. A bundle never spans nodes, so a TP group cannot split.
Left out: TP groups over several nodes of one NVLink domain (NVL72); they are refused.
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


def placement_for(layout: Layout, *, across_nodes: bool, gpus_per_node: int) -> Placement:
    """The bundles and the strategy of one instance on nodes of `gpus_per_node`.

    Raises RefusedError where a TP group needs more GPUs than a node has.
    """
    if layout.tp > gpus_per_node:
        raise RefusedError(
            f"{layout.label}: a TP group of {layout.tp} does not fit a node of {gpus_per_node} "
            f"GPUs: {layout.tp} > {gpus_per_node}. A TP group over several nodes of one NVLink "
            f"domain (NVL72) is not placed yet. Use TP {gpus_per_node} or less."
        )
    bundles: list[dict[str, float]] = [{"GPU": float(layout.tp)} for _ in range(layout.tp_groups)]
    bundles[0]["CPU"] = 1.0
    strategy: Strategy = "PACK"
    if across_nodes and layout.tp_groups > 1:
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


def bundle_of_rank(layout: Layout, dp_rank: int, rank: int) -> int:
    """The bundle of rank `rank` of DP rank `dp_rank`. Raises RefusedError outside the layout."""
    if not 0 <= dp_rank < layout.dp:
        raise RefusedError(f"DP rank {dp_rank} is not in 0..{layout.dp - 1} of {layout.label}.")
    return dp_rank * layout.pp + stage_of_rank(layout, rank)
