"""How many instances the nodes of a group hold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from planning_cases import group

from rayserve_par.errors import RefusedError
from rayserve_par.planning import Layout
from rayserve_par.planning.spread import spread_of


@pytest.mark.parametrize(
    ("layout", "nodes", "size", "across", "instances", "nodes_each", "own_nodes"),
    [
        (Layout(), 2, 8, "auto", 16, 1, False),
        (Layout(tp=2), 2, 8, "auto", 8, 1, False),
        (Layout(tp=3), 2, 8, "auto", 4, 1, False),
        (Layout(tp=8, pp=2), 2, 8, "auto", 1, 2, True),
        (Layout(tp=8, pp=2), 5, 8, "auto", 2, 2, True),
        (Layout(tp=8, pp=2), 1, 8, "auto", 0, 2, True),
        (Layout(tp=8, dp=2, ep=16), 1250, 8, "auto", 625, 2, True),
        (Layout(tp=5, pp=2), 2, 8, "auto", 1, 2, True),  # two TP groups of 5 share no node
        (Layout(tp=2, pp=2), 2, 2, "auto", 1, 2, True),
        (Layout(pp=2), 2, 2, "auto", 2, 1, False),
        (Layout(pp=2), 2, 2, "nodes", 2, 2, True),
        (Layout(pp=2), 1, 2, "nodes", 0, 2, True),
        (Layout(pp=3), 2, 2, "nodes", 0, 3, True),
        (Layout(pp=3), 2, 2, "auto", 1, 2, False),
        (Layout(pp=3), 3, 2, "nodes", 2, 3, True),
        (Layout(tp=4, pp=3), 3, 8, "auto", 2, 2, False),  # 6 slots of 4, 3 per instance
        (Layout(tp=8), 3, 8, "nodes", 3, 1, False),  # one TP group: nothing to spread
    ],
)
def test_spread(
    layout: Layout,
    nodes: int,
    size: int,
    across: str,
    instances: int,
    nodes_each: int,
    own_nodes: bool,
) -> None:
    found = spread_of(layout, group("H200", nodes, size), across)
    assert found.instances == instances
    assert found.nodes_per_instance == nodes_each
    assert found.across_nodes is own_nodes
    assert str(instances) in found.arithmetic or instances == 0


@pytest.mark.parametrize(
    ("layout", "nodes", "instances", "nodes_each", "arithmetic"),
    [
        (
            Layout(tp=16),
            18,
            4,
            4,
            "TP 16 / 4 GPUs = 4 nodes a TP group, 1 NVLink domain of 18 nodes x floor(18 / 4) = "
            "4: 4 TP groups, / 1 per instance = 4",
        ),
        (
            Layout(tp=16),
            41,  # two domains and 5 nodes of a third
            9,
            4,
            "TP 16 / 4 GPUs = 4 nodes a TP group, 2 NVLink domains of 18 nodes x floor(18 / 4) = "
            "8, floor(5 nodes / 4) = 1: 9 TP groups, / 1 per instance = 9",
        ),
        (
            Layout(tp=8, pp=2),
            5,
            1,
            4,
            "TP 8 / 4 GPUs = 2 nodes a TP group, floor(5 nodes / 2) = 2: 2 TP groups, / 2 per "
            "instance = 1",
        ),
        (Layout(tp=8, pp=2), 3, 0, 4, "4 nodes per instance, 3 nodes"),
        (
            Layout(tp=72),
            35,  # the second domain lacks a node
            1,
            18,
            "TP 72 / 4 GPUs = 18 nodes a TP group, 1 NVLink domain of 18 nodes x floor(18 / 18) = "
            "1, floor(17 nodes / 18) = 0: 1 TP group, / 1 per instance = 1",
        ),
        (Layout(tp=4, pp=3), 18, 6, 3, "4 GPUs / TP 4 = 1 TP group a node, x 18 nodes = 18, / 3"),
    ],
)
def test_a_tp_group_over_nodes_stays_in_its_domain(
    layout: Layout, nodes: int, instances: int, nodes_each: int, arithmetic: str
) -> None:
    found = spread_of(layout, group("GB300", nodes), "auto")
    assert (found.instances, found.nodes_per_instance) == (instances, nodes_each)
    assert found.across_nodes
    assert found.arithmetic.startswith(arithmetic)


@given(
    st.sampled_from(["H200", "GB300", "H100-NVL", "L40S"]),
    st.integers(1, 60),
    st.integers(1, 72),
    st.integers(1, 6),
    st.sampled_from(["auto", "nodes"]),
)
def test_instances_never_exceed_the_group(
    gpu: str, nodes: int, tp: int, groups: int, across: str
) -> None:
    layout, wide = Layout(tp=tp, pp=groups), group(gpu, nodes)
    try:
        found = spread_of(layout, wide, across)
    except RefusedError:
        assert tp > wide.tp_limit or tp % wide.gpus_per_node
        return
    assert found.instances * layout.gpus <= wide.gpus
    assert found.instances * found.nodes_per_tp_group * groups <= nodes * max(
        1, wide.gpus_per_node // tp
    )
    assert spread_of(layout, group(gpu, nodes + 1), across).instances >= found.instances


def test_a_tp_group_takes_whole_nodes_of_a_domain() -> None:
    with pytest.raises(RefusedError, match=r"6 / 4 GPUs = 1\.5 nodes"):
        spread_of(Layout(tp=6), group("GB300", 18), "auto")
    with pytest.raises(RefusedError, match="80 > 72 GPUs"):
        spread_of(Layout(tp=80), group("GB300", 36), "auto")


def test_a_tp_group_wider_than_a_node_is_refused() -> None:
    with pytest.raises(RefusedError, match="TP 16 exceeds a node's 8 x H200"):
        spread_of(Layout(tp=16), group("H200", 2), "auto")
