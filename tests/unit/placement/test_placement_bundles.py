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


@pytest.mark.parametrize(
    ("layout", "parts", "count"),
    [
        (Layout(tp=8), 2, 2),
        (Layout(tp=16), 4, 4),
        (Layout(tp=8, pp=3), 2, 6),
        (Layout(tp=8, dp=2, ep=16), 2, 4),
        (Layout(tp=72), 18, 18),
        (Layout(tp=4, pp=3), 1, 3),
    ],
)
def test_a_tp_group_over_nodes_of_a_domain(layout: Layout, parts: int, count: int) -> None:
    found = placement_for(layout, across_nodes=True, gpus_per_node=4, domain_gpus=72)
    assert (found.bundles_per_tp_group, len(found.bundles)) == (parts, count)
    assert found.bundles == ({"GPU": 4, "CPU": 1}, *({"GPU": 4},) * (count - 1))
    assert (found.strategy, found.gpus_per_bundle) == ("STRICT_SPREAD", 4)
    assert found.gpus == layout.gpus


@pytest.mark.parametrize(
    ("tp", "domain", "message"),
    [
        (8, None, r"TP8: a TP group of 8 does not fit a node of 4 GPUs: 8 > 4\. Use TP 4 or less"),
        (80, 72, r"does not fit an NVLink domain of 72 GPUs: 80 > 72\. Use TP 72 or less"),
        (10, 72, r"does not fit whole nodes of 4 GPUs: 10 / 4 = 2\.5\. Use TP 8 or 12"),
        (8, 2, r"does not fit a node of 4 GPUs: 8 > 4"),
    ],
)
def test_a_tp_group_that_fits_no_domain_is_refused(
    tp: int, domain: int | None, message: str
) -> None:
    with pytest.raises(RefusedError, match=message):
        placement_for(Layout(tp=tp), across_nodes=True, gpus_per_node=4, domain_gpus=domain)


@pytest.mark.parametrize(
    ("dp_rank", "rank", "bundle", "tp_group"),
    [(0, 0, 0, 0), (0, 3, 0, 0), (0, 4, 1, 0), (0, 8, 2, 1), (0, 15, 3, 1), (1, 0, 4, 2)],
)
def test_bundles_of_a_tp_group_over_nodes(
    dp_rank: int, rank: int, bundle: int, tp_group: int
) -> None:
    layout = Layout(tp=8, pp=2, dp=2, ep=16)
    found = placement_for(layout, across_nodes=True, gpus_per_node=4, domain_gpus=72)
    assert found.bundle_of(dp_rank, rank) == bundle
    assert found.tp_group_of(bundle) == tp_group


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


@given(st.integers(1, 8), st.integers(1, 5), st.integers(1, 4), st.sampled_from([1, 2, 4, 8]))
def test_every_bundle_gets_as_many_ranks_as_it_has_gpus(
    tp: int, pp: int, dp: int, parts: int
) -> None:
    """With whole TP groups, and with groups over `parts` nodes of `tp` GPUs each."""
    layout = Layout(tp * parts, pp, dp, tp * parts * dp)
    placement = placement_for(layout, across_nodes=True, gpus_per_node=tp, domain_gpus=tp * parts)
    counts = [0] * len(placement.bundles)
    groups: dict[int, set[tuple[int, int]]] = {}
    for dp_rank in range(dp):
        for rank in range(layout.ranks_per_dp_rank):
            bundle = placement.bundle_of(dp_rank, rank)
            counts[bundle] += 1
            place = (dp_rank, stage_of_rank(layout, rank))
            groups.setdefault(placement.tp_group_of(bundle), set()).add(place)
    assert counts == [bundle["GPU"] for bundle in placement.bundles]
    assert sorted(groups) == list(range(layout.tp_groups))
    assert all(len(places) == 1 for places in groups.values())
