"""The picture of a plan that runs nowhere yet."""

from collections import Counter

import pytest

from rayserve_par.cli.planned_placement import planned_placement
from rayserve_par.hardware import parse_cluster
from rayserve_par.placement.bundles import bundle_of_rank, placement_for
from rayserve_par.planning import LayoutRequest, plan
from rayserve_par.serving.model_store.locate import locate_model

SMOL = "HuggingFaceTB/SmolLM2-135M-Instruct"
DEEPSEEK = "deepseek-ai/DeepSeek-V3.1"
LLAMA_8B = "meta-llama/Llama-3.1-8B-Instruct"


@pytest.mark.parametrize(
    ("model", "cluster", "asked", "instances", "shown", "nodes_drawn", "gpus_by_node"),
    [
        (LLAMA_8B, "8xH100", {"tp": 1}, None, 8, 1, {"node 0": 8}),
        (LLAMA_8B, "2x8xH100", {"tp": 2}, 5, 5, 2, {"node 0": 8, "node 1": 2}),
        (SMOL, "2x2xL4", {"pp": 2, "across": "nodes"}, 1, 1, 2, {"node 0": 1, "node 1": 1}),
        (SMOL, "2x2xL4", {"pp": 2, "across": "nodes"}, 2, 2, 2, {"node 0": 2, "node 1": 2}),
        # the second instance begins on the emptiest node
        (
            SMOL,
            "4x2xL4",
            {"pp": 3, "across": "nodes"},
            2,
            2,
            4,
            {"node 0": 2, "node 1": 2, "node 2": 1, "node 3": 1},
        ),
        # PACK: 3 stages of TP2 on nodes of 4: two slots a node, the instance spans two nodes
        (LLAMA_8B, "2x4xH100", {"tp": 2, "pp": 3}, 1, 1, 2, {"node 0": 4, "node 1": 2}),
        (
            DEEPSEEK,
            "2x8xH200",
            {"tp": 8, "dp": 2, "ep": 16},
            1,
            1,
            2,
            {"node 0": 8, "node 1": 8},
        ),
        # many nodes: the first instance's only
        (
            DEEPSEEK,
            "12x8xH200",
            {"tp": 8, "dp": 2, "ep": 16},
            None,
            1,
            2,
            {"node 0": 8, "node 1": 8},
        ),
    ],
)
def test_where_instances_would_go(
    model: str,
    cluster: str,
    asked: dict[str, int],
    instances: int | None,
    shown: int,
    nodes_drawn: int,
    gpus_by_node: dict[str, int],
) -> None:
    made = plan(
        locate_model(model, prepare=False).spec,
        parse_cluster(cluster),
        request=LayoutRequest(**asked),  # type: ignore[arg-type]
        instances=instances,
        max_model_len=2048,
    )
    found = planned_placement(made)
    assert found.instances_shown == shown
    assert len(found.nodes) == nodes_drawn
    assert Counter(node for node, _ in found.cells) == gpus_by_node
    assert len(found.cells) == shown * made.layout.gpus


def test_a_tp_group_is_on_one_node_and_spread_groups_on_different_ones() -> None:
    made = plan(
        locate_model(DEEPSEEK, prepare=False).spec,
        parse_cluster("4x8xH200"),
        request=LayoutRequest(tp=4, pp=3, across="nodes"),
        instances=2,
    )
    cells = planned_placement(made).cells
    placement = placement_for(made.layout, across_nodes=True, gpus_per_node=8)
    assert placement.strategy == "STRICT_SPREAD"
    for instance in ("inst 0", "inst 1"):
        nodes_of_bundle: dict[int, set[str]] = {}
        for (node, _), cell in cells.items():
            if cell.instance == instance:
                rank = int(cell.rank.removeprefix("rank "))
                bundle = bundle_of_rank(made.layout, 0, rank)
                nodes_of_bundle.setdefault(bundle, set()).add(node)
        assert [len(nodes) for nodes in nodes_of_bundle.values()] == [1, 1, 1]
        assert len(set.union(*nodes_of_bundle.values())) == 3
