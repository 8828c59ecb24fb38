"""Where the stages of one instance are: GPUs by DP rank, PP stage and node.

stage = rank // tp      of a rank within its DP rank's world of tp x pp
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from rayserve_par.serving.rank_table import RankRecord


@dataclass(frozen=True, slots=True)
class StagePlace:
    """GPUs that one stage of one DP rank holds on one node (Ray's node id)."""

    dp_rank: int
    stage: int
    node_id: str
    gpus: int


def stage_places(ranks: Iterable[RankRecord], tp: int) -> tuple[StagePlace, ...]:
    """The places of all stages, in order; a TP group over several nodes has several."""
    counted = Counter((rank.dp_rank, rank.rank // tp, rank.node_id) for rank in ranks)
    return tuple(
        StagePlace(dp_rank, stage, node, gpus)
        for (dp_rank, stage, node), gpus in sorted(counted.items())
    )
