"""Which node is meant."""

from __future__ import annotations

import pytest

pytest.importorskip("ray")

from rayserve_par.control.drain import find_node
from rayserve_par.errors import RefusedError
from rayserve_par.placement.fit import NodeState


def node(name: str, node_id: str) -> NodeState:
    return NodeState(node_id, name, 8.0, 8.0, 8.0, node_id)


NODES = (node("a", "11aa22"), node("b", "11bb33"), node("11", "ff0000"))


@pytest.mark.parametrize(
    ("asked", "found"),
    [("a", "a"), ("11aa", "a"), ("11aa22", "a"), ("11b", "b"), ("ff", "11"), ("11", "11")],
)
def test_a_name_or_the_beginning_of_an_id(asked: str, found: str) -> None:
    assert find_node(NODES, asked).name == found


@pytest.mark.parametrize(
    ("asked", "what"), [("c", "names no node"), ("", "names 3 nodes"), ("22", "names no node")]
)
def test_no_node_or_several_are_refused(asked: str, what: str) -> None:
    with pytest.raises(RefusedError, match=what) as refused:
        find_node(NODES, asked)
    assert "a (11aa22)" in str(refused.value)
