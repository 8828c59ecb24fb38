"""A layout on this cluster: bundles, strategy, rank to bundle, and whether it holds."""

from rayserve_par.placement.bundles import (
    Placement,
    bundle_of_rank,
    placement_for,
    stage_of_rank,
)
from rayserve_par.placement.fit import NodeState, check_fit
from rayserve_par.placement.picture import CellText, NodeView, draw
from rayserve_par.placement.verify import RankLocation, Verdict, rank_cell, verify

__all__ = [
    "CellText",
    "NodeState",
    "NodeView",
    "Placement",
    "RankLocation",
    "Verdict",
    "bundle_of_rank",
    "check_fit",
    "draw",
    "placement_for",
    "rank_cell",
    "stage_of_rank",
    "verify",
]
