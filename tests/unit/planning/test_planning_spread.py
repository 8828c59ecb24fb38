"""How many instances the nodes of a group hold."""

import pytest
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


def test_a_tp_group_wider_than_a_node_is_refused() -> None:
    with pytest.raises(RefusedError, match="TP 16 exceeds a node's 8 x H200"):
        spread_of(Layout(tp=16), group("H200", 2), "auto")
