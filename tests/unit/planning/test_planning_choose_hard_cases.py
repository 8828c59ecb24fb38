"""The layouts that calculators get wrong, from the model to the plan."""

import pytest
from planning_cases import (
    DEEPSEEK,
    GPT_OSS,
    LLAMA_8B,
    LLAMA_70B,
    LLAMA_405B,
    MODELS,
    QWEN,
    moe_model,
    planned,
)
from published_models import published

from rayserve_par.errors import RefusedError
from rayserve_par.hardware import parse_cluster
from rayserve_par.model import ModelSpec, known_config, model_spec_from_config
from rayserve_par.planning import Layout, LayoutRequest, Target, Workload, plan
from rayserve_par.sizing import size_by_rule
from rayserve_par.sizing.rule_of_thumb import RuleOfThumb

MINIMAX = "MiniMaxAI--MiniMax-M2.5"


def model_named(name: str) -> ModelSpec:
    return MODELS[name] if name in MODELS else published(name)


def refusal(name: str, cluster: str, **asked: object) -> str:
    with pytest.raises(RefusedError) as refused:
        plan(model_named(name), parse_cluster(cluster), **asked)  # type: ignore[arg-type]
    return str(refused.value)


def test_the_rule_of_thumbs_worked_example() -> None:
    found = planned(DEEPSEEK, "8xB200")
    rule: RuleOfThumb = found.sizing
    assert (rule.gpus, rule.nodes, rule.smaller_gpus) == (8, 1, 4)
    assert rule.weights_gb == pytest.approx(671, abs=0.1)
    assert rule.vram_gb == pytest.approx(1207.8, abs=0.1)
    assert found.gpus == 8
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("name", "cluster", "gpus"),
    [
        (DEEPSEEK, "8xB200", 8),
        (DEEPSEEK, "8xH200", 16),
        (LLAMA_405B, "8xH200", 16),
        (LLAMA_405B, "8xH100", 24),
        (LLAMA_70B, "8xH100", 2),
        (LLAMA_8B, "8xH100", 1),
        (LLAMA_8B, "4xL4", 2),
        (GPT_OSS, "8xH100", 2),
    ],
)
def test_the_rule_of_thumb_beside_the_exact_sizing(name: str, cluster: str, gpus: int) -> None:
    (group,) = parse_cluster(cluster).node_groups
    assert size_by_rule(MODELS[name], group.gpu, group.gpus_per_node).gpus == gpus


def test_a_plan_below_the_rule_shows_both() -> None:
    found = planned(LLAMA_405B, "8xH200")
    assert found.layout == Layout(tp=8)
    assert any(line.startswith("VRAM = ") for line in found.reasons)
    warning = found.warnings[0]
    assert warning.startswith("TP8 has 1128 GB, below the rule of thumb's 1461.1 GB")
    assert f"the exact sizing leaves {found.memory.kv_tokens:,} KV tokens per DP rank" in warning


def test_405b_in_bf16_does_not_fit_8_h100() -> None:
    message = refusal(LLAMA_405B, "8xH100")
    assert "TP8PP2 would fit, on 2 nodes of 8 = 16 GPUs" in message
    explicit = refusal(LLAMA_405B, "8xH100", request=LayoutRequest(tp=8))
    assert "KV of one request of 2048 tokens" in explicit
    assert "> 71.26 GiB (79.18 GiB x 0.9)" in explicit
    assert planned(LLAMA_405B, "16xH100").layout == Layout(tp=8, pp=2)


def test_70b_in_fp8_does_not_fit_one_h100_at_16k() -> None:
    assert "would fit, on 2 nodes" in refusal(LLAMA_70B, "1xH100", max_model_len=16384)
    explicit = refusal(LLAMA_70B, "1xH100", request=LayoutRequest(), max_model_len=16384)
    assert "KV of one request of 16384 tokens" in explicit
    assert planned(LLAMA_70B, "2xH100", max_model_len=16384).layout.gpus == 2


@pytest.mark.parametrize("name", [QWEN, MINIMAX])
@pytest.mark.parametrize("layout", [LayoutRequest(tp=8), LayoutRequest(tp=8, pp=1, dp=1, ep=1)])
def test_blocks_cut_by_tp_8_are_refused(name: str, layout: LayoutRequest) -> None:
    message = refusal(name, "8xH100", request=layout)
    assert "1536 / TP 8 = 192 is not a multiple of the fp8-block128 block of 128" in message
    assert "192 / 128 = 1.5" in message


@pytest.mark.parametrize("name", [QWEN, MINIMAX])
@pytest.mark.parametrize(
    "asked",
    [
        LayoutRequest(tp=4),
        LayoutRequest(tp=8, ep=8),
        LayoutRequest(tp=4, dp=2, ep=8),
        LayoutRequest(tp=4, pp=2),
    ],
)
def test_tp_4_and_whole_experts_are_accepted(name: str, asked: LayoutRequest) -> None:
    found = plan(model_named(name), parse_cluster("8xH100"), request=asked)
    assert (found.layout, found.instances) == (asked.layout, 8 // asked.layout.gpus)


@pytest.mark.parametrize("name", [QWEN, MINIMAX])
@pytest.mark.parametrize("target", [Target.BALANCED, Target.LATENCY, Target.THROUGHPUT])
def test_blocks_cut_by_tp_8_are_never_chosen(name: str, target: Target) -> None:
    found = plan(model_named(name), parse_cluster("8xH100"), target=target)
    assert found.layout.moe_tp <= 4
    assert any("192 / 128 = 1.5" in reason for one in found.refused for reason in one.reasons)


@pytest.mark.parametrize(
    ("name", "cluster"),
    [(LLAMA_70B, "4xL40S"), (LLAMA_70B, "2x4xL40S"), ("Qwen--Qwen3-32B", "4xL40S")],
)
def test_pp_goes_before_tp_without_nvlink(name: str, cluster: str) -> None:
    found = plan(model_named(name), parse_cluster(cluster))
    assert found.layout == Layout(pp=2)
    assert "L40S has no NVLink: PP before TP" in found.reasons


def test_pp_goes_before_ep_without_nvlink() -> None:
    found = plan(published("mistralai--Mixtral-8x7B-v0.1"), parse_cluster("4xL40S"))
    assert found.layout == Layout(pp=4)


def test_tp_over_pcie_where_a_limit_that_was_asked_for_wants_it() -> None:
    # Stages follow each other, so PP cannot lower TPOT below reading all weights on one GPU.
    asked = planned(LLAMA_70B, "4xL40S", request=LayoutRequest(tp=4), target=Target.LATENCY)
    over_pcie = asked.point.tpot_seconds * 1.1
    limits = Workload(tpot_seconds=over_pcie)
    found = planned(LLAMA_70B, "4xL40S", workload=limits)
    assert found.layout == Layout(tp=4)
    assert found.point.tpot_seconds <= over_pcie
    why = f"L40S has no NVLink, but PP alone does not meet {limits.label}"
    assert why in found.reasons
    assert any("crosses PCIe" in line for line in found.warnings)


def test_latency_takes_tp_over_pcie() -> None:
    assert planned(LLAMA_70B, "4xL40S", target=Target.LATENCY).layout == Layout(tp=4)


def test_nvlink_takes_tp() -> None:
    assert planned(LLAMA_70B, "4xA100-40").layout == Layout(tp=4)


def test_8b_on_8_h100_is_8_replicas() -> None:
    found = planned(LLAMA_8B, "8xH100")
    assert (found.layout, found.instances, found.gpus) == (Layout(), 8, 8)
    assert "8 instances (replicas): 1x8xH100 holds 8" in found.reasons[-1]


def test_dense_over_nodes_is_tp_by_pp() -> None:
    found = planned(LLAMA_405B, "2x8xH100")
    assert (found.layout, found.nodes_per_instance) == (Layout(tp=8, pp=2), 2)
    assert found.across_nodes
    assert "over nodes: a node of 8 x H100 cannot hold the model and one request" in found.reasons


def test_deepseek_v3_over_nodes_is_ep_16() -> None:
    found = plan(published("deepseek-ai--DeepSeek-V3"), parse_cluster("2x8xH100"))
    layout = found.layout
    assert (layout.ep, layout.tp * layout.dp, layout.pp) == (16, 16, 1)
    assert found.nodes_per_instance == 2
    assert "over nodes: a node of 8 x H100 cannot hold the model and one request" in found.reasons


def test_over_nodes_because_a_limit_demands_it() -> None:
    # 9 heads forbid TP; few fat experts, so wider EP leaves each GPU fewer of them to read.
    model = moe_model(
        num_attention_heads=9,
        num_key_value_heads=3,
        hidden_size=4608,
        num_experts=8,
        num_experts_per_tok=2,
        moe_intermediate_size=8192,
    )
    cluster = parse_cluster("2x4xH100")
    inside = plan(model, cluster)
    assert (inside.nodes_per_instance, inside.layout.tp) == (1, 1)
    asked = LayoutRequest(dp=8, ep=8)
    wide = plan(model, cluster, request=asked, target=Target.LATENCY).point.tpot_seconds
    narrow = plan(
        model, cluster, request=LayoutRequest(dp=4, ep=4), target=Target.LATENCY
    ).point.tpot_seconds
    single = plan(model, cluster, target=Target.LATENCY).point.tpot_seconds
    assert wide < min(narrow, single)
    limits = Workload(tpot_seconds=(wide + min(narrow, single)) / 2)
    found = plan(model, cluster, workload=limits)
    assert (found.layout, found.nodes_per_instance) == (asked.layout, 2)
    assert f"over nodes: no layout inside a node of 4 x H100 meets {limits.label}" in found.reasons
    # Where no layout at all meets it, the instance stays inside the node.
    unmet = plan(model, cluster, workload=Workload(tpot_seconds=1e-6))
    assert unmet.nodes_per_instance == 1


def test_a_mixed_cluster_is_one_cluster() -> None:
    cluster = "3x8xH100,2x4xL40S"
    small = planned(LLAMA_8B, cluster)
    assert (small.node_group.name, small.instances) == ("h100", 24)
    large = planned(LLAMA_405B, cluster)
    assert (large.node_group.name, large.layout) == ("h100", Layout(tp=8, pp=2))
    assert any("2x4xL40S: " in line and "missing" in line for line in large.reasons)
    with pytest.raises(RefusedError, match=r"3x8xH100 has 24 GPUs.*2x4xL40S has 8 GPUs"):
        planned(LLAMA_8B, cluster, request=LayoutRequest(), instances=25)


def trillions() -> ModelSpec:
    """2.4T parameters in FP8 with 64 heads, of DeepSeek's architecture."""
    config = known_config(DEEPSEEK)
    assert config is not None
    heads = {"num_attention_heads": 64, "num_key_value_heads": 64}
    return model_spec_from_config({**config, **heads, "num_hidden_layers": 213}, "trillions")


def test_two_trillions_on_nvl72() -> None:
    model, cluster = trillions(), parse_cluster("18x4xGB300")
    assert model.parameters == pytest.approx(2.4e12, rel=0.01)
    found = plan(model, cluster)
    assert found.layout.gpus in (12, 16)
    with pytest.raises(RefusedError, match=r"64 attention heads are not divisible by TP 12"):
        plan(model, cluster, request=LayoutRequest(tp=12))
    across = plan(model, cluster, request=LayoutRequest(tp=16))
    assert (across.nodes_per_instance, across.instances) == (4, 4)
    stages = plan(model, cluster, request=LayoutRequest(tp=4, pp=3))
    assert (stages.nodes_per_instance, stages.instances) == (3, 6)
    with pytest.raises(RefusedError, match="GiB > "):
        plan(model, cluster, request=LayoutRequest(tp=8))


def test_a_tp_group_spans_trays_for_latency() -> None:
    found = plan(trillions(), parse_cluster("18x4xGB300"), target=Target.LATENCY)
    assert found.layout.tp >= 16
    assert found.layout.tp % 4 == 0
    assert found.nodes_per_instance * 4 == found.layout.gpus
