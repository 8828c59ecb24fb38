"""Bundles, strategy, and which bundle a rank is in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayserve_par.errors import RefusedError
from rayserve_par.placement import bundle_of_rank, placement_for, stage_of_rank
from rayserve_par.planning import Layout


@pytest.mark.parametrize(
    ("layout", "across", "size", "strategy", "bundles"),
    [
        (Layout(), False, 8, "STRICT_PACK", ({"GPU": 1, "CPU": 1},)),
        (Layout(), True, 8, "STRICT_PACK", ({"GPU": 1, "CPU": 1},)),
        (Layout(tp=8), False, 8, "STRICT_PACK", ({"GPU": 8, "CPU": 1},)),
        (Layout(pp=2), False, 2, "STRICT_PACK", ({"GPU": 1, "CPU": 1}, {"GPU": 1})),
        (Layout(pp=2), True, 2, "STRICT_SPREAD", ({"GPU": 1, "CPU": 1}, {"GPU": 1})),
        (Layout(tp=8, pp=2), True, 8, "STRICT_SPREAD", ({"GPU": 8, "CPU": 1}, {"GPU": 8})),
        (Layout(8, 1, 2, 16), True, 8, "STRICT_SPREAD", ({"GPU": 8, "CPU": 1}, {"GPU": 8})),
        (Layout(pp=3), False, 2, "PACK", ({"GPU": 1, "CPU": 1}, {"GPU": 1}, {"GPU": 1})),
        (Layout(tp=2, pp=2), False, 4, "STRICT_PACK", ({"GPU": 2, "CPU": 1}, {"GPU": 2})),
    ],
)
def test_placement(
    layout: Layout, across: bool, size: int, strategy: str, bundles: tuple[dict[str, float], ...]
) -> None:
    found = placement_for(layout, across_nodes=across, gpus_per_node=size)
    assert (found.strategy, found.bundles) == (strategy, bundles)
    assert found.across_nodes is (strategy == "STRICT_SPREAD")
    assert found.gpus == layout.gpus


def test_a_tp_group_over_several_nodes_is_refused() -> None:
    with pytest.raises(RefusedError, match=r"TP8: a TP group of 8 .* 8 > 4.*NVL72.*TP 4 or less"):
        placement_for(Layout(tp=8), across_nodes=True, gpus_per_node=4)


@pytest.mark.parametrize(
    ("layout", "dp_rank", "rank", "stage", "bundle"),
    [
        (Layout(tp=2, pp=2), 0, 0, 0, 0),
        (Layout(tp=2, pp=2), 0, 1, 0, 0),
        (Layout(tp=2, pp=2), 0, 2, 1, 1),
        (Layout(tp=2, pp=2), 0, 3, 1, 1),
        (Layout(dp=2, ep=2), 1, 0, 0, 1),
        (Layout(tp=8, dp=2, ep=16), 1, 7, 0, 1),
        (Layout(tp=2, pp=3, dp=2, ep=4), 1, 5, 2, 5),
    ],
)
def test_bundle_of_rank(layout: Layout, dp_rank: int, rank: int, stage: int, bundle: int) -> None:
    assert stage_of_rank(layout, rank) == stage
    assert bundle_of_rank(layout, dp_rank, rank) == bundle


@pytest.mark.parametrize(("dp_rank", "rank"), [(0, 4), (0, -1), (1, 0), (-1, 0)])
def test_a_rank_outside_the_layout_is_refused(dp_rank: int, rank: int) -> None:
    with pytest.raises(RefusedError, match="is not in 0"):
        bundle_of_rank(Layout(tp=2, pp=2), dp_rank, rank)


@given(st.integers(1, 8), st.integers(1, 5), st.integers(1, 4))
def test_every_bundle_gets_as_many_ranks_as_it_has_gpus(tp: int, pp: int, dp: int) -> None:
    layout = Layout(tp, pp, dp, tp * dp)
    placement = placement_for(layout, across_nodes=True, gpus_per_node=8)
    counts = [0] * len(placement.bundles)
    for dp_rank in range(dp):
        for rank in range(layout.ranks_per_dp_rank):
            counts[bundle_of_rank(layout, dp_rank, rank)] += 1
    assert counts == [bundle["GPU"] for bundle in placement.bundles]
