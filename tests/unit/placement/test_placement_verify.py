"""Ranks where they should be, and every way in which they are not."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayserve_par.placement import (
    RankLocation,
    bundle_of_rank,
    placement_for,
    verify,
)
from rayserve_par.planning import Layout

TP2PP2 = placement_for(Layout(tp=2, pp=2), across_nodes=True, gpus_per_node=2)
PACKED = placement_for(Layout(tp=2, pp=2), across_nodes=False, gpus_per_node=4)
EP = placement_for(Layout(dp=2, ep=2), across_nodes=True, gpus_per_node=2)
DOMAINS = {"a": "a", "b": "b"}
ON_TWO = {0: "a", 1: "b"}
GOOD = [
    RankLocation(0, 0, 0, "a", 0),
    RankLocation(0, 1, 0, "a", 1),
    RankLocation(0, 2, 1, "b", 0),
    RankLocation(0, 3, 1, "b", 1),
]


def moved(index: int, **changes: object) -> list[RankLocation]:
    return [
        replace(one, **changes) if i == index else one  # type: ignore[arg-type]
        for i, one in enumerate(GOOD)
    ]


def test_a_good_placement() -> None:
    verdict = verify(TP2PP2, GOOD, DOMAINS, ON_TWO)
    assert verdict.ok
    assert verdict.violations == ()
    assert verdict.expected == verdict.actual
    assert "stage 1" in verdict.actual


def test_which_gpu_of_its_node_a_rank_has_does_not_matter() -> None:
    swapped = moved(0, gpu=1)
    swapped[1] = replace(swapped[1], gpu=0)
    assert verify(TP2PP2, swapped, DOMAINS, ON_TWO).ok


@pytest.mark.parametrize(
    ("locations", "violations"),
    [
        (GOOD[:3], ["rank 3 is missing"]),
        ([*GOOD, GOOD[0]], ["rank 0 runs 2 times", "GPU 0 of node a is used by rank 0, rank 0"]),
        (
            [*GOOD, RankLocation(0, 4, 1, "b", 2)],
            ["rank 4 is not in TP2PP2"],
        ),
        (
            moved(1, node_id="b", gpu=2),
            [
                "rank 1 runs on node b; its bundle 0 is on node a",
                "TP group 0 is split over nodes a, b",
                "TP group 0 is split over NVLink domains a, b",
            ],
        ),
        (moved(1, bundle=1), ["rank 1 is in bundle 1, not in bundle 0"]),
        (moved(3, gpu=0), ["GPU 0 of node b is used by rank 2, rank 3"]),
        (
            moved(3, node_id="c", gpu=0),
            [
                "rank 3 runs on node c; its bundle 1 is on node b",
                "TP group 1 is split over nodes b, c",
                "TP group 1: the NVLink domain of node c is not known",
            ],
        ),
        ([], [f"rank {rank} is missing" for rank in range(4)]),
    ],
)
def test_violations(locations: list[RankLocation], violations: list[str]) -> None:
    verdict = verify(TP2PP2, locations, DOMAINS, ON_TWO)
    assert not verdict.ok
    assert list(verdict.violations) == violations


def test_stages_that_share_a_node_where_each_must_have_its_own() -> None:
    locations = [replace(one, node_id="a", gpu=i) for i, one in enumerate(GOOD)]
    verdict = verify(TP2PP2, locations, DOMAINS, {0: "a", 1: "a"})
    assert verdict.violations == ("node a holds TP groups 0, 1; each must have a node of its own",)
    assert "another node, for bundle 1" in verdict.expected
    assert "another node" not in verdict.actual


def test_an_instance_over_nodes_where_it_must_be_on_one() -> None:
    verdict = verify(PACKED, GOOD, DOMAINS, ON_TWO)
    assert verdict.violations == ("the instance is spread over nodes a, b; it must be on one",)
    assert "a: 4 of 4 GPUs used" in verdict.expected


def test_a_bundle_without_a_node() -> None:
    verdict = verify(TP2PP2, GOOD, DOMAINS, {0: "a"})
    assert "bundle 1 has no node" in verdict.violations


def test_nodes_of_one_nvlink_domain_do_not_make_a_split_group_whole() -> None:
    # A bundle is on one node, so a TP group over two is wrong even inside a domain.
    verdict = verify(TP2PP2, moved(1, node_id="b", gpu=2), {"a": "rack", "b": "rack"}, ON_TWO)
    assert not verdict.ok
    assert not any("domains" in violation for violation in verdict.violations)


WIDE = placement_for(Layout(tp=4), across_nodes=True, gpus_per_node=2, domain_gpus=8)
RACK = {"a": "rack", "b": "rack", "c": "other rack"}


def test_a_tp_group_over_nodes_of_one_domain() -> None:
    good = [RankLocation(0, rank, rank // 2, "ab"[rank // 2], rank % 2) for rank in range(4)]
    verdict = verify(WIDE, good, RACK, ON_TWO)
    assert verdict.ok, verdict.violations
    assert verdict.expected == verdict.actual
    assert "a: 2 of 2 GPUs used" in verdict.actual
    assert "b: 2 of 2 GPUs used" in verdict.actual


@pytest.mark.parametrize(
    ("nodes", "violation"),
    [
        ({0: "a", 1: "c"}, "TP group 0 is split over NVLink domains other rack, rack"),
        ({0: "a", 1: "d"}, "TP group 0: the NVLink domain of node d is not known"),
        ({0: "a", 1: "a"}, "node a holds bundles 0, 1; each must have a node of its own"),
    ],
)
def test_a_tp_group_over_nodes_that_are_not_joined(nodes: dict[int, str], violation: str) -> None:
    locations = [RankLocation(0, rank, rank // 2, nodes[rank // 2], rank) for rank in range(4)]
    assert verify(WIDE, locations, RACK, nodes).violations == (violation,)


def test_dp_ranks_are_named() -> None:
    good = [RankLocation(0, 0, 0, "a", 0), RankLocation(1, 0, 1, "b", 0)]
    assert verify(EP, good, DOMAINS, ON_TWO).ok
    verdict = verify(EP, good[:1], DOMAINS, ON_TWO)
    assert verdict.violations == ("rank 0 of DP rank 1 is missing",)
    assert "DP 1" in verdict.expected
    assert "DP 1" not in verdict.actual


def test_nodes_are_drawn_at_their_size() -> None:
    verdict = verify(TP2PP2, GOOD, DOMAINS, ON_TWO, gpus_of_node={"a": 4})
    assert "a: 2 of 4 GPUs used" in verdict.actual
    assert "b: 2 of 2 GPUs used" in verdict.actual


layouts = st.builds(
    lambda tp, pp, dp: Layout(tp, pp, dp, tp * dp),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 3),
)


@given(layouts, st.booleans(), st.data())
def test_only_the_right_placement_is_accepted(
    layout: Layout, across: bool, data: st.DataObject
) -> None:
    """Ranks put by the rule pass; moving, doubling or losing one does not."""
    placement = placement_for(layout, across_nodes=across, gpus_per_node=36)
    groups = layout.tp_groups
    bundle_nodes = {b: f"n{b}" if placement.across_nodes else "n0" for b in range(groups)}
    domains = {f"n{b}": f"n{b}" for b in range(groups)}
    locations: list[RankLocation] = []
    for dp_rank in range(layout.dp):
        for rank in range(layout.ranks_per_dp_rank):
            bundle = bundle_of_rank(layout, dp_rank, rank)
            gpu = len(locations)
            locations.append(RankLocation(dp_rank, rank, bundle, bundle_nodes[bundle], gpu))
    assert verify(placement, locations, domains, bundle_nodes).ok
    index = data.draw(st.integers(0, len(locations) - 1))
    one = locations[index]
    wrong = data.draw(
        st.sampled_from(
            [
                [],
                [one, one],
                [replace(one, node_id="elsewhere")],
                [replace(one, bundle=one.bundle + 1)],
                [replace(one, rank=layout.ranks_per_dp_rank)],
                [replace(one, dp_rank=layout.dp)],
            ]
        )
    )
    broken = [*locations[:index], *wrong, *locations[index + 1 :]]
    assert not verify(placement, broken, domains, bundle_nodes).ok
