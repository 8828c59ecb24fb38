"""Whether nodes hold the instances: by cases, and against an exhaustive search."""

from functools import cache
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rayserve_par.errors import RefusedError
from rayserve_par.placement import NodeState, Placement, check_fit, placement_for
from rayserve_par.placement.fit import capacity, capacity_by_domain
from rayserve_par.planning import Layout


def node(name: str, total: float, free: float | None = None, cpus: float = 8) -> NodeState:
    return NodeState(name, name, total, total if free is None else free, cpus, name)


def spread(tp: int, groups: int) -> Placement:
    return placement_for(Layout(tp=tp, pp=groups), across_nodes=True, gpus_per_node=8)


def packed(tp: int, groups: int) -> Placement:
    return placement_for(Layout(tp=tp, pp=groups), across_nodes=False, gpus_per_node=8)


@pytest.mark.parametrize(
    ("placement", "nodes", "instances"),
    [
        (packed(1, 1), [node("a", 1)], 1),
        (packed(8, 1), [node("a", 8), node("b", 8)], 2),
        (packed(2, 2), [node("a", 8)], 2),
        (packed(4, 3), [node("a", 4), node("b", 4), node("c", 4)], 1),  # PACK over nodes
        (spread(1, 2), [node("a", 2), node("b", 2)], 2),
        (spread(1, 2), [node("a", 2), node("b", 2), node("c", 2)], 3),
        (spread(8, 2), [node("a", 8), node("b", 8), node("cpu", 0, 0, 64)], 1),
        (packed(1, 1), [node("a", 4, 2.5, cpus=2)], 2),
    ],
)
def test_fits(placement: Placement, nodes: list[NodeState], instances: int) -> None:
    check_fit(placement, nodes, instances)


@pytest.mark.parametrize(
    ("placement", "nodes", "instances", "message"),
    [
        (packed(1, 1), [node("a", 0, 0)], 1, "none of the cluster's 1 nodes has a GPU"),
        (packed(1, 1), [], 1, "none of the cluster's 0 nodes"),
        (packed(1, 1), [node("a", 1)], 0, "instances is 0"),
        (
            packed(8, 1),
            [node("a", 4), node("b", 4)],
            1,
            r"no node holds a TP group of 8 GPUs: the largest, a, has 4 < 8 \(GPUs by node: a 4, b",
        ),
        (
            spread(2, 2),
            [node("a", 2), node("b", 2)],
            2,
            r"2 x TP2PP2 need 2 x 4 = 8 GPUs; the cluster has 4: 4 missing",
        ),
        (
            spread(2, 2),
            [node("a", 8), node("b", 1)],
            1,
            r"needs 2 nodes with 2 GPUs; the cluster has 1: 1 missing \(GPUs by node: a 8, b 1\)",
        ),
        (
            packed(3, 2),  # 6 GPUs on one node
            [node("a", 4), node("b", 4)],
            1,
            "1 x TP3PP2 need 6 GPUs on one node each; the cluster's nodes hold 0 of the 1",
        ),
        (
            spread(1, 2),
            [node("a", 7), node("b", 1)],
            2,
            "2 x PP2 need 1 GPUs on each of 2 different nodes each; the cluster's nodes hold 1",
        ),
        (
            spread(2, 2),
            [node("a", 2), node("b", 2, 0)],
            1,
            r"what is free now \(2 GPUs\) holds 0. Free: b 0 of 2 GPUs and 8 CPUs",
        ),
        (
            packed(1, 1),
            [node("a", 2, cpus=0.5), node("b", 2, 1)],
            2,
            r"what is free now \(3 GPUs\) holds 1. Free: a 2 of 2 GPUs and 0.5 CPUs, b 1 of 2",
        ),
        (
            spread(2, 2),
            [node("a", 2, cpus=0), node("b", 2, cpus=0)],
            1,
            "a free CPU beside bundle 0 of each instance; the nodes with free GPUs have CPUs for 0",
        ),
    ],
)
def test_refused(
    placement: Placement, nodes: list[NodeState], instances: int, message: str
) -> None:
    with pytest.raises(RefusedError, match=message):
        check_fit(placement, nodes, instances)


def tray(name: str, domain: str, free: float = 4) -> NodeState:
    return NodeState(name, name, 4, free, 8, domain)


def wide(tp: int, groups: int = 1) -> Placement:
    layout = Layout(tp=tp, pp=groups)
    return placement_for(layout, across_nodes=True, gpus_per_node=4, domain_gpus=72)


RACKS = [tray(f"a{i}", "a") for i in range(3)] + [tray(f"b{i}", "b") for i in range(3)]


@pytest.mark.parametrize(
    ("placement", "nodes", "instances"),
    [
        (wide(8), RACKS, 2),
        (wide(8, groups=2), RACKS, 1),
        (wide(12), RACKS, 2),
        (wide(8), [*RACKS, tray("b3", "b")], 3),
        (wide(8), [*RACKS, node("cpu", 0, 0)], 2),
    ],
)
def test_tp_groups_over_nodes_fit_domain_by_domain(
    placement: Placement, nodes: list[NodeState], instances: int
) -> None:
    check_fit(placement, nodes, instances)


@pytest.mark.parametrize(
    ("placement", "nodes", "instances", "message"),
    [
        (
            wide(8),
            RACKS,
            3,  # six nodes would do, but each rack has three
            r"3 x TP8 need 1 x 2 nodes of 4 GPUs each, every 2 of them in one NVLink domain; "
            r"the cluster's nodes hold 2 of the 3 \(nodes by NVLink domain: a 3, b 3; GPUs by node",
        ),
        (wide(16), RACKS, 1, "hold 0 of the 1"),
        (wide(8, groups=4), RACKS, 1, "1 x TP8PP4 need 1 x 32 = 32 GPUs; the cluster has 24"),
        (
            wide(8),
            [tray("a0", "a"), node("small", 2), node("less", 2)],
            1,
            r"TP8 over whole nodes needs 2 nodes with 4 GPUs; the cluster has 1: 1 missing",
        ),
        (
            wide(8),
            [node(f"n{i}", 2) for i in range(4)],
            1,
            r"no node holds a TP group's share of 4 GPUs: the largest, n0, has 2 < 4",
        ),
        (
            wide(12),
            [tray("a0", "a"), tray("a1", "a"), tray("a2", "a", free=3)],
            1,
            r"what is free now \(11 GPUs\) holds 0. Free: a2 3 of 4 GPUs",
        ),
    ],
)
def test_tp_groups_over_nodes_refused(
    placement: Placement, nodes: list[NodeState], instances: int, message: str
) -> None:
    with pytest.raises(RefusedError, match=message):
        check_fit(placement, nodes, instances)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=4), st.integers(2, 4), st.integers(1, 3))
def test_capacity_by_domain_is_what_putting_groups_one_by_one_gives(
    sizes: list[int], width: int, groups: int
) -> None:
    placement = wide(4 * width, groups)
    domains = [f"d{i}" for i, size in enumerate(sizes) for _ in range(size)]
    left, placed = list(sizes), 0
    while any(size >= width for size in left):
        left[next(i for i, size in enumerate(left) if size >= width)] -= width
        placed += 1
    assert capacity_by_domain(placement, [1] * len(domains), domains) == placed // groups


def test_many_nodes_are_not_all_listed() -> None:
    nodes = [node(f"n{i}", 4) for i in range(1250)]
    with pytest.raises(RefusedError, match=r"n7 4 and 1242 more") as refused:
        check_fit(packed(8, 1), nodes, 1)
    assert len(str(refused.value)) < 400


def exhaustive(placement: Placement, slots: tuple[int, ...]) -> int:
    """The most instances, by trying every way to take one instance from the slots."""
    groups = placement.layout.tp_groups

    @cache
    def most(left: tuple[int, ...]) -> int:
        best = 0
        for taken in ways(left, groups):
            rest = tuple(sorted(have - use for have, use in zip(left, taken, strict=True)))
            best = max(best, 1 + most(rest))
        return best

    def ways(left: tuple[int, ...], want: int) -> list[tuple[int, ...]]:
        size = len(left)
        if placement.strategy == "STRICT_PACK":
            return [
                tuple(want if i == j else 0 for j in range(size))
                for i in range(size)
                if left[i] >= want
            ]
        if placement.strategy == "STRICT_SPREAD":
            usable = [i for i in range(size) if left[i]]
            return [
                tuple(int(j in chosen) for j in range(size))
                for chosen in combinations(usable, want)
            ]
        if not left:
            return [()] if want == 0 else []
        return [
            (use, *tail)
            for use in range(min(left[0], want) + 1)
            for tail in ways(left[1:], want - use)
        ]

    return most(tuple(sorted(slots)))


@settings(max_examples=150)
@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=4),
    st.integers(1, 4),
    st.sampled_from(["STRICT_PACK", "STRICT_SPREAD", "PACK"]),
)
def test_capacity_is_exact(slots: list[int], groups: int, strategy: str) -> None:
    layout = Layout(pp=groups)
    bundles = tuple({"GPU": 1.0} for _ in range(groups))
    placement = Placement(bundles, strategy, layout, False)  # type: ignore[arg-type]
    assert capacity(placement, slots) == exhaustive(placement, tuple(slots))


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=1, max_size=6),
    st.integers(1, 4),
    st.integers(1, 3),
    st.booleans(),
    st.integers(1, 6),
)
def test_what_fits_still_fits_with_a_node_more(
    sizes: list[tuple[int, int]], tp: int, groups: int, across: bool, instances: int
) -> None:
    placement = placement_for(Layout(tp=tp, pp=groups), across_nodes=across, gpus_per_node=8)
    nodes = [
        node(f"n{i}", max(total, free), min(total, free)) for i, (total, free) in enumerate(sizes)
    ]
    try:
        check_fit(placement, nodes, instances)
    except RefusedError:
        return
    check_fit(placement, [*nodes, node("new", 8)], instances)
    if instances > 1:
        check_fit(placement, nodes, instances - 1)
