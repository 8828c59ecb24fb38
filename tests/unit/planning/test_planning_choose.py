"""Which layout is taken, rule by rule."""

from typing import Any

import pytest
from planning_cases import (
    DEEPSEEK,
    GPT_OSS,
    LLAMA_8B,
    LLAMA_70B,
    LLAMA_405B,
    QWEN,
    SMOL,
    dense_model,
    moe_model,
    planned,
)

from rayserve_par.errors import RefusedError
from rayserve_par.hardware import parse_cluster
from rayserve_par.planning import Layout, Target, plan

LATENCY = {"target": Target.LATENCY}


@pytest.mark.parametrize(
    ("name", "cluster", "asked", "label", "instances", "own_nodes"),
    [
        # Fits one GPU: TP1, the rest are replicas.
        (SMOL, "2x2xlogical-cpu", {}, "TP1", 4, False),
        (LLAMA_8B, "16xH100", {}, "TP1", 16, False),
        (LLAMA_70B, "8xH200", {}, "TP1", 8, False),
        # Fits a node: the smallest legal TP that holds it.
        (LLAMA_8B, "L4", {}, "TP2", 2, False),
        (LLAMA_70B, "8xH100", {}, "TP2", 4, False),
        (GPT_OSS, "8xH100", {}, "TP2", 4, False),
        (GPT_OSS, "8xH200", {}, "TP1", 8, False),
        (DEEPSEEK, "B200", {}, "TP8", 1, False),
        (DEEPSEEK, "24xB200", {}, "TP8", 3, False),
        (QWEN, "4xH200", {}, "TP4", 1, False),
        # Block-quantised experts cannot be cut by 8: they are spread whole.
        (QWEN, "8xH100", {}, "TP8EP8", 1, False),
        # Exceeds a node: dense TP x PP, MoE EP over all GPUs.
        (LLAMA_405B, "16xH200", {}, "TP8PP2", 1, True),
        (LLAMA_405B, "24xH100", {}, "TP8PP3", 1, True),
        (LLAMA_405B, "40xH200", {}, "TP8PP2", 2, True),
        (DEEPSEEK, "16xH200", {}, "TP8DP2EP16", 1, True),
        (DEEPSEEK, "16xH100", {}, "TP8DP2EP16", 1, True),
        (DEEPSEEK, "72xGB200", {}, "TP4DP2EP8", 9, True),
        (DEEPSEEK, "1250x8xH200", {}, "TP8DP2EP16", 625, True),
        # H100 NVL joins pairs: TP stays inside one.
        (LLAMA_405B, "24xH100-NVL", {}, "TP2PP8", 1, False),
        # Latency: the widest legal TP inside a node.
        (LLAMA_8B, "16xH100", LATENCY, "TP8", 2, False),
        (LLAMA_70B, "8xH200", LATENCY, "TP8", 1, False),
        (QWEN, "8xH200", LATENCY, "TP8EP8", 1, False),
        (SMOL, "3xH100", LATENCY, "TP3", 1, False),
        (SMOL, "8xH100", LATENCY, "TP1", 8, False),
        (DEEPSEEK, "16xH200", LATENCY, "TP8DP2EP16", 1, True),
    ],
)
def test_the_rule(
    name: str, cluster: str, asked: dict[str, Any], label: str, instances: int, own_nodes: bool
) -> None:
    found = planned(name, cluster, **asked)
    assert (found.layout.label, found.instances) == (label, instances)
    assert found.across_nodes is own_nodes
    assert found.auto == found.layout
    assert not found.explicit


def test_no_legal_tp_takes_pp_inside_the_node_and_says_why() -> None:
    # 9 heads: TP 2 and TP 4 are illegal; 23.2 GB of weights do not fit an L4.
    model = dense_model(
        num_attention_heads=9, num_key_value_heads=3, hidden_size=4608, intermediate_size=98304
    )
    found = plan(model, parse_cluster("2x4xL4"))
    assert (found.layout, found.instances, found.nodes_per_instance) == (Layout(pp=2), 4, 1)
    assert "not TP2: 9 attention heads are not divisible by TP 2: 9 / 2 = 4.5" in found.reasons
    assert [one.layout for one in found.refused] == [Layout(tp=2), Layout(tp=4)]


def test_a_moe_whose_experts_do_not_divide_takes_more_nodes_or_pp() -> None:
    # 18 experts: EP over 2 x 4 GPUs is illegal, TP 4 x PP 2 is legal on the same GPUs.
    model = moe_model(
        num_experts=18, moe_intermediate_size=16384, hidden_size=6144, num_hidden_layers=16
    )
    found = plan(model, parse_cluster("3x4xL40S"))
    assert found.layout == Layout(tp=4, pp=2)
    refused = {one.layout.label: one.reasons[0] for one in found.refused}
    assert refused["TP4DP2EP8"] == "18 experts are not divisible by EP 8: 18 / 8 = 2.25"


def test_the_asked_request_length_counts() -> None:
    # 70B FP8 on one H200 leaves KV cache for some tokens; a longer request wants TP 2.
    short = planned(LLAMA_70B, "8xH200", max_model_len=16384)
    limit = short.memory.kv_tokens
    assert short.layout == Layout()
    assert planned(LLAMA_70B, "8xH200", max_model_len=limit).layout == Layout()
    longer = planned(LLAMA_70B, "8xH200", max_model_len=limit + 1)
    assert longer.layout == Layout(tp=2)
    (refused,) = longer.refused
    assert f"KV of one request of {limit + 1} tokens" in refused.reasons[0]


@pytest.mark.parametrize(
    ("name", "cluster", "parts"),
    [
        (
            DEEPSEEK,
            "8xH100",
            ("1207.8 GB", "TP8DP2EP16 would fit, on 2 nodes", "1 node (8 GPUs) missing"),
        ),
        (LLAMA_405B, "8xH100", ("1461.1 GB", "TP8PP3 would fit", "2 nodes (16 GPUs) missing")),
        (LLAMA_70B, "1xH100", ("127.0 GB", "1 node (1 GPUs) missing")),
        (LLAMA_405B, "logical-cpu", ("no layout fits up to",)),
    ],
)
def test_what_does_not_fit_says_what_is_missing(
    name: str, cluster: str, parts: tuple[str, ...]
) -> None:
    with pytest.raises(RefusedError) as refused:
        planned(name, cluster)
    for part in parts:
        assert part in str(refused.value)


@pytest.mark.parametrize(
    ("name", "cluster", "group", "label"),
    [
        (LLAMA_405B, "4x8xH100,2x8xH200", "h200", "TP8PP2"),
        (LLAMA_405B, "1x8xH200,4x8xH100", "h100", "TP8PP3"),
        (LLAMA_8B, "8xH100,8xH200", "h100", "TP1"),  # equal: the first
        (LLAMA_70B, "8xH100,8xH200", "h200", "TP1"),
    ],
)
def test_of_several_groups_the_one_with_the_fewest_gpus_per_instance(
    name: str, cluster: str, group: str, label: str
) -> None:
    found = planned(name, cluster)
    assert (found.node_group.name, found.layout.label) == (group, label)
    assert f"node group {group} takes the fewest GPUs per instance" in found.reasons[0]


def test_a_group_that_holds_nothing_is_named() -> None:
    found = planned(LLAMA_405B, "1x8xH200,4x8xH100")
    assert "1x8xH200: TP8PP2 would fit" in found.reasons[1]
    assert "1 node (8 GPUs) missing" in found.reasons[1]
