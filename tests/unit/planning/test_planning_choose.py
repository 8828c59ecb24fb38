"""Which layout is taken, rule by rule."""

from typing import Any

import pytest
from planning_cases import (
    DEEPSEEK,
    GPT_OSS,
    LLAMA_8B,
    LLAMA_70B,
    LLAMA_405B,
    MODELS,
    QWEN,
    SMOL,
    dense_model,
    group,
    moe_model,
    need_of,
    planned,
)

from rayserve_par.errors import RefusedError
from rayserve_par.hardware import parse_cluster
from rayserve_par.planning import Layout, Target, Workload, plan
from rayserve_par.planning.choose import Choice, choose, ranked

LATENCY = {"target": Target.LATENCY}


@pytest.mark.parametrize(
    ("name", "cluster", "asked", "label", "instances", "own_nodes"),
    [
        # Fits one GPU: TP1, the rest are replicas.
        (SMOL, "2x2xlogical-cpu", {}, "TP1", 4, False),
        (LLAMA_8B, "8xH100", {}, "TP1", 8, False),
        (LLAMA_8B, "16xH100", {}, "TP1", 16, False),
        (LLAMA_8B, "L4", {}, "TP1", 4, False),
        (LLAMA_70B, "8xH200", {}, "TP1", 8, False),
        (GPT_OSS, "8xH100", {}, "TP1", 8, False),
        (GPT_OSS, "8xH200", {}, "TP1", 8, False),
        # Fits a node: the smallest legal TP that holds it.
        (LLAMA_70B, "8xH100", {}, "TP2", 4, False),
        (DEEPSEEK, "72xGB200", {}, "DP8EP8", 9, False),
        # Fits one node of H200 exactly as sized; PP inside the node would be slower.
        (LLAMA_405B, "16xH200", {}, "TP8", 2, False),
        (LLAMA_405B, "40xH200", {}, "TP8", 5, False),
        # Exceeds a node: dense TP x PP.
        (LLAMA_405B, "16xH100", {}, "TP8PP2", 1, True),
        (LLAMA_405B, "24xH100", {}, "TP8PP2", 1, True),
        (LLAMA_405B, "40xH100", {}, "TP8PP2", 2, True),
        # H100 NVL joins pairs: TP stays inside one.
        (LLAMA_405B, "24xH100-NVL", {}, "TP2PP8", 1, False),
        # Latency: wide TP where weights are large, one GPU where the collectives cost more.
        (LLAMA_70B, "8xH200", LATENCY, "TP8", 1, False),
        (LLAMA_405B, "32xH100", LATENCY, "TP8PP2", 2, True),
        (SMOL, "3xH100", LATENCY, "TP1", 3, False),
        (SMOL, "8xH100", LATENCY, "TP1", 8, False),
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


@pytest.mark.parametrize(
    ("name", "cluster", "asked", "gpus", "nodes", "instances"),
    [
        # Which split of a node is fastest is the performance model's matter, its size is not.
        (QWEN, "4xH200", {}, 2, 1, 2),
        (QWEN, "8xH100", {}, 4, 1, 2),
        (DEEPSEEK, "B200", {}, 8, 1, 1),
        (DEEPSEEK, "24xB200", {}, 8, 1, 3),
        (DEEPSEEK, "16xH200", {}, 8, 1, 2),
        (DEEPSEEK, "1250x8xH200", {}, 8, 1, 1250),
        (DEEPSEEK, "16xH200", LATENCY, 8, 1, 2),
        (DEEPSEEK, "4x8xH200", {"target": Target.THROUGHPUT}, 8, 1, 4),
    ],
)
def test_a_moe_that_one_node_holds_stays_inside_it(
    name: str, cluster: str, asked: dict[str, Any], gpus: int, nodes: int, instances: int
) -> None:
    found = planned(name, cluster, **asked)
    assert (found.layout.gpus, found.nodes_per_instance) == (gpus, nodes)
    assert found.instances == instances
    assert not any("over nodes" in line for line in found.reasons)


@pytest.mark.parametrize("target", [Target.BALANCED, Target.LATENCY, Target.THROUGHPUT])
@pytest.mark.parametrize("cluster", ["16xH100", "4x8xH100"])
def test_a_moe_over_nodes_spreads_its_experts_over_all_ranks(target: Target, cluster: str) -> None:
    found = planned(DEEPSEEK, cluster, target=target)
    layout = found.layout
    assert layout.dp > 1
    assert (layout.ep, layout.moe_tp) == (layout.tp * layout.dp, 1)
    assert found.nodes_per_instance >= 2
    assert "over nodes: a node of 8 x H100 cannot hold the model and one request" in found.reasons
    if target is Target.BALANCED:
        assert (layout.gpus, layout.ep) == (16, 16)


def test_no_legal_tp_takes_pp_inside_the_node_and_says_why() -> None:
    # 9 heads: TP 2 and TP 4 are illegal; 23.2 GB of weights do not fit an L4.
    model = dense_model(
        num_attention_heads=9, num_key_value_heads=3, hidden_size=4608, intermediate_size=98304
    )
    found = plan(model, parse_cluster("2x4xL4"))
    assert (found.layout, found.instances, found.nodes_per_instance) == (Layout(pp=2), 4, 1)
    reasons = {one.layout.tp: one.reasons[0] for one in found.refused}
    assert reasons[2] == "9 attention heads are not divisible by TP 2: 9 / 2 = 4.5"
    assert reasons[4] == "9 attention heads are not divisible by TP 4: 9 / 4 = 2.25"


def test_a_moe_over_nodes_whose_experts_do_not_divide_takes_pp() -> None:
    # 18 experts: EP over 2 x 4 GPUs is illegal, TP 4 x PP 2 is legal on the same GPUs.
    model = moe_model(
        num_experts=18, moe_intermediate_size=16384, hidden_size=6144, num_hidden_layers=16
    )
    found = plan(model, parse_cluster("3x4xA100-40"))
    assert found.layout == Layout(tp=4, pp=2)
    refused = {reason for one in found.refused for reason in one.reasons}
    assert "18 experts are not divisible by EP 8: 18 / 8 = 2.25" in refused


def test_the_asked_request_length_counts() -> None:
    # 70B FP8 on one H200 leaves KV cache for some tokens; a longer request wants TP 2.
    short = planned(LLAMA_70B, "8xH200", max_model_len=16384)
    limit = short.memory.kv_tokens - 16  # one block is the engine's null block
    assert short.layout == Layout()
    memory = need_of(MODELS[LLAMA_70B]).memory(Layout(), group("H200"))
    assert memory.fits(limit)
    context = MODELS[LLAMA_70B].max_context_tokens
    assert planned(LLAMA_70B, "8xH100", max_model_len=context).layout == Layout(tp=2)
    # On one H100 16k tokens fit no longer, as listed among the refused.
    longer = planned(LLAMA_70B, "2xH100", max_model_len=16384)
    assert longer.layout == Layout(tp=2)
    assert any(
        "KV of one request of 16384 tokens" in reason
        for one in longer.refused
        for reason in one.reasons
    )


def test_a_request_of_the_workload_must_fit_as_well() -> None:
    long = Workload(isl=30_000, osl=1000)
    found = planned(LLAMA_70B, "8xH100", workload=long)
    assert found.memory.requests_at(long.tokens) >= 1
    assert found.memory.fits(long.tokens)
    assert all(one.kv_tokens >= long.tokens for one in found.runner_ups)
    with pytest.raises(RefusedError, match=r"31000 tokens exceed max_model_len, 8192"):
        planned(LLAMA_70B, "8xH100", workload=long, max_model_len=8192)
    with pytest.raises(
        RefusedError, match=r"ISL 200000 \+ OSL 256 = 200256 tokens exceed the cont"
    ):
        planned(LLAMA_70B, "8xH100", workload=Workload(isl=200_000))


@pytest.mark.parametrize(
    ("name", "cluster", "parts"),
    [
        (
            DEEPSEEK,
            "8xH100",
            ("1207.8 GB", "DP8EP16 would fit, on 2 nodes", "1 node (8 GPUs) missing"),
        ),
        (LLAMA_405B, "8xH100", ("1461.1 GB", "TP8PP2 would fit", "1 node (8 GPUs) missing")),
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
    ("name", "cluster", "group_name", "label"),
    [
        (LLAMA_405B, "4x8xH100,2x8xH200", "h200", "TP8"),
        (LLAMA_405B, "1x8xH200,4x8xH100", "h200", "TP8"),
        (LLAMA_405B, "1x4xH200,4x8xH100", "h100", "TP8PP2"),
        (LLAMA_8B, "2x4xL40S,8xH200", "h200", "TP1"),  # equal GPUs: the faster
        (LLAMA_8B, "8xH200,2x4xL40S", "h200", "TP1"),
        (LLAMA_70B, "8xH100,8xH200", "h200", "TP1"),
        (LLAMA_70B, "3x8xH100,2x4xL40S", "h100", "TP2"),
    ],
)
def test_of_several_groups_the_one_with_the_fewest_gpus_per_instance(
    name: str, cluster: str, group_name: str, label: str
) -> None:
    found = planned(name, cluster)
    assert (found.node_group.name, found.layout.label) == (group_name, label)
    assert f"node group {group_name} is best for balanced" in found.reasons[0]


def test_a_group_that_holds_nothing_is_named() -> None:
    found = planned(LLAMA_405B, "1x4xH200,4x8xH100")
    assert "1x4xH200: TP4PP2 would fit, on 2 nodes of 4" in found.reasons[1]
    assert "1 node (4 GPUs) missing" in found.reasons[1]


def test_gpus_that_nobody_can_use_count_as_the_instances_own() -> None:
    # TP2PP3 holds DeepSeek on 6 H200s, and leaves 2 of every node idle.
    need, nodes = need_of(MODELS[DEEPSEEK]), group("H200", 2)
    choice = choose(need, nodes, Target.BALANCED)
    assert isinstance(choice, Choice)
    taken = {one.layout: one.gpus_taken for one in choice.candidates}
    assert taken[Layout(tp=2, pp=3)] == taken[Layout(tp=8)] == 8
    assert choice.best.layout.gpus == 8
    inside = [one for one in choice.candidates if one.in_one_domain]
    for target in (Target.THROUGHPUT, Target.COST):
        order = [one.layout for one in ranked(need, inside, target)]
        assert order.index(Layout(tp=2, pp=3)) > order.index(Layout(tp=8))


def test_balanced_wants_room_for_sixteen_requests() -> None:
    # One H100 holds 70B FP8 and a request of 2048 tokens at 0.945 of its memory, not 16.
    asked = {"gpu_memory_utilization": 0.945, "max_model_len": 2048}
    alone = planned(LLAMA_70B, "1xH100", **asked)
    assert alone.layout == Layout()
    assert alone.memory.requests_at(1280) < 16
    assert planned(LLAMA_70B, "8xH100", **asked).layout == Layout(tp=2)


@pytest.mark.parametrize("name", [LLAMA_8B, LLAMA_70B, QWEN, DEEPSEEK])
def test_latency_takes_a_tpot_near_the_lowest(name: str) -> None:
    choice = choose(need_of(MODELS[name]), group("H200"), Target.LATENCY)
    assert isinstance(choice, Choice)
    inside = [one for one in choice.candidates if one.in_one_domain]
    lowest = min(one.point.tpot_seconds for one in inside)
    assert choice.best.point.tpot_seconds <= 1.03 * lowest
    narrower = [one for one in inside if one.layout.gpus < choice.best.layout.gpus]
    assert all(one.point.tpot_seconds > 1.03 * lowest for one in narrower)


def test_where_no_layout_meets_the_limits_the_nearest_is_taken_and_it_says_so() -> None:
    found = planned(LLAMA_70B, "8xH100", workload=Workload(tpot_seconds=1e-4))
    assert "no layout meets ISL 1024, OSL 256, TTFT <= 2 s, TPOT <= 0.1 ms" in found.reasons
    assert any("comes nearest to the limits" in line for line in found.reasons)
    assert found.point.streams == 1
    lowest = min(one.point.tpot_seconds for one in found.runner_ups)
    assert found.point.tpot_seconds <= 1.03 * lowest
    assert not any(one.meets_limits for one in found.runner_ups)
