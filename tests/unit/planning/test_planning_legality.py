"""Which layouts are refused, with which arithmetic."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planning_cases import (
    DEEPSEEK,
    GPT_OSS,
    LLAMA_70B,
    LLAMA_405B,
    MODELS,
    QWEN,
    SMOL,
    dense_model,
    group,
    moe_model,
)

from rayserve_par.hardware import NodeGroup, gpu_names
from rayserve_par.model import ModelSpec
from rayserve_par.planning import Layout, illegal

H200 = group("H200", nodes=4)


@pytest.mark.parametrize(
    ("name", "layout", "nodes"),
    [
        (SMOL, Layout(), H200),
        (SMOL, Layout(tp=3), group("H200", gpus_per_node=3)),
        (SMOL, Layout(pp=2), group("logical-cpu")),
        (SMOL, Layout(pp=30), H200),
        (LLAMA_70B, Layout(tp=8), H200),
        (LLAMA_405B, Layout(tp=8, pp=2), H200),
        (LLAMA_405B, Layout(tp=8, pp=3), H200),
        (QWEN, Layout(tp=4), H200),
        (QWEN, Layout(tp=8, ep=8), H200),
        (QWEN, Layout(tp=4, dp=2, ep=8), H200),
        (DEEPSEEK, Layout(tp=8), H200),
        (DEEPSEEK, Layout(tp=8, dp=2, ep=16), H200),
        (DEEPSEEK, Layout(tp=1, dp=16, ep=16), H200),
        (DEEPSEEK, Layout(tp=8, pp=2), H200),
        (DEEPSEEK, Layout(tp=4, dp=2, ep=8), group("GB200", nodes=18)),
        (GPT_OSS, Layout(tp=8), H200),  # 2880 / 8 = 360 is padded to 384
        (GPT_OSS, Layout(tp=2, ep=2), H200),
    ],
    ids=lambda value: value.label if isinstance(value, Layout | NodeGroup) else str(value),
)
def test_legal(name: str, layout: Layout, nodes: NodeGroup) -> None:
    assert illegal(MODELS[name], layout, nodes) == ()


@pytest.mark.parametrize(
    ("model", "layout", "nodes", "reasons"),
    [
        (
            MODELS[SMOL],
            Layout(tp=2),
            H200,
            (
                "9 attention heads are not divisible by TP 2: 9 / 2 = 4.5",
                "3 KV heads and TP 2 do not divide each other: 3 / 2 = 1.5, 2 / 3 = 0.6667",
            ),
        ),
        (
            MODELS[QWEN],
            Layout(tp=8),
            H200,
            (
                "routed_experts (gate_proj): 1536 / TP 8 = 192 is not a multiple of the "
                "fp8-block128 block of 128: 192 / 128 = 1.5",
            ),
        ),
        (
            MODELS[DEEPSEEK],
            Layout(pp=64),
            H200,
            ("61 layers cannot make 64 PP stages: each needs at least one",),
        ),
        (
            MODELS[DEEPSEEK],
            Layout(tp=8, dp=3, ep=24),
            H200,
            ("256 experts are not divisible by EP 24: 256 / 24 = 10.67",),
        ),
        (
            MODELS[DEEPSEEK],
            Layout(tp=8, dp=2, ep=4),
            H200,
            ("EP 4 is neither 1 nor TP x DP = 8 x 2 = 16, the only two that vLLM has",),
        ),
        (
            MODELS[DEEPSEEK],
            Layout(tp=4, dp=2),
            H200,
            (
                "DP 2 without EP would cut every expert over 8 ranks in step: use EP 8, or ask "
                "for 2 instances",
            ),
        ),
        (
            MODELS[LLAMA_70B],
            Layout(dp=2),
            H200,
            ("DP 2 of a dense model shares nothing: ask for 2 instances instead",),
        ),
        (
            MODELS[LLAMA_70B],
            Layout(tp=2, ep=2),
            H200,
            (f"EP 2 needs experts; {LLAMA_70B} is dense",),
        ),
        (
            MODELS[LLAMA_70B],
            Layout(tp=16),
            H200,
            ("TP 16 exceeds a node's 8 x H200: 16 > 8",),
        ),
        (
            MODELS[LLAMA_70B],
            Layout(tp=8),
            group("GB200", nodes=18),
            (
                "TP 8 exceeds a node's 4 x GB200: 8 > 4; its NVLink domain has 72, but a TP group "
                "over several nodes is not placed yet",
            ),
        ),
        (
            MODELS[LLAMA_70B],
            Layout(tp=4),
            group("H100-NVL"),
            ("TP 4 exceeds the NVLink domain of H100-NVL: 4 > 2 GPUs",),
        ),
        (
            dense_model(num_attention_heads=12, num_key_value_heads=12, hidden_size=768),
            Layout(tp=8),
            H200,
            (
                "12 attention heads are not divisible by TP 8: 12 / 8 = 1.5",
                "12 KV heads and TP 8 do not divide each other: 12 / 8 = 1.5, 8 / 12 = 0.6667",
            ),
        ),
        (
            dense_model(intermediate_size=4098),
            Layout(tp=4),
            H200,
            (
                "4098 values of the MLP's intermediate size are not divisible by TP 4: "
                "4098 / 4 = 1024",
            ),
        ),
        (
            moe_model(moe_intermediate_size=510),
            Layout(tp=4),
            H200,
            (
                "510 values of an expert's intermediate size are not divisible by TP 4: "
                "510 / 4 = 127.5",
            ),
        ),
    ],
    ids=lambda value: value.label if isinstance(value, Layout) else "",
)
def test_illegal(
    model: ModelSpec, layout: Layout, nodes: NodeGroup, reasons: tuple[str, ...]
) -> None:
    assert illegal(model, layout, nodes) == reasons


def test_kv_heads_may_be_repeated() -> None:
    # 4 KV heads: TP 8 repeats each twice; TP 6 is neither.
    model = dense_model(num_attention_heads=48, hidden_size=3072, intermediate_size=6144)
    assert illegal(model, Layout(tp=8), H200) == ()
    reasons = illegal(model, Layout(tp=6), H200)
    assert reasons == ("4 KV heads and TP 6 do not divide each other: 4 / 6 = 0.6667, 6 / 4 = 1.5",)


FP8_BLOCK = {"quant_method": "fp8", "weight_block_size": [128, 128]}


@pytest.mark.parametrize(
    ("changes", "tp", "blamed"),
    [
        # head_dim 64: 16 heads over 8 ranks are 128 outputs; 4 KV heads are one of 64 each.
        ({}, 8, ["attention (k_proj)"]),
        ({}, 2, []),
        ({"intermediate_size": 4096 - 128}, 2, ["dense_mlp (gate_proj)"]),
        ({"head_dim": 128}, 4, []),
        ({"head_dim": 128, "num_key_value_heads": 8}, 8, []),
        ({"num_attention_heads": 8, "head_dim": 64}, 8, ["attention (q_proj)"]),
    ],
)
def test_blocks_of_quantised_weights(
    changes: dict[str, object], tp: int, blamed: list[str]
) -> None:
    model = dense_model(**{"quantization_config": FP8_BLOCK, **changes})
    reasons = illegal(model, Layout(tp=tp), H200)
    assert [reason.split(":")[0] for reason in reasons if "block" in reason][:1] == blamed
    assert bool(reasons) == bool(blamed)


def test_blocks_bind_only_where_something_is_cut() -> None:
    model = moe_model(
        quantization_config=FP8_BLOCK,
        moe_intermediate_size=192,
        head_dim=128,
        num_key_value_heads=8,
    )
    assert illegal(model, Layout(), H200) == ()
    assert illegal(model, Layout(tp=2, ep=2), H200) == ()
    (reason,) = illegal(model, Layout(tp=2), H200)
    assert "192 / TP 2 = 96 is not a multiple" in reason


@pytest.mark.parametrize(
    ("quant", "tp", "legal"),
    [
        # Groups of 128 inputs: 4096 / 8 = 512 is whole, 4096 - 512 = 3584 / 8 = 448 is not.
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, 8, False),
        ({"quant_method": "awq", "bits": 4, "group_size": 64}, 8, True),
        ({"quant_method": "fp8"}, 8, True),
        (None, 8, True),
    ],
)
def test_groups_of_quantised_weights(quant: dict[str, object] | None, tp: int, legal: bool) -> None:
    changes = {"quantization_config": quant} if quant else {}
    model = dense_model(intermediate_size=3584, **changes)
    assert (illegal(model, Layout(tp=tp), H200) == ()) is legal


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(sorted(MODELS)),
    st.sampled_from(gpu_names()),
    st.integers(1, 16),
    st.integers(1, 8),
    st.integers(1, 4),
    st.booleans(),
)
def test_a_legal_tp_stays_inside_node_and_domain_and_divides(
    name: str, gpu: str, tp: int, pp: int, dp: int, spread: bool
) -> None:
    model, nodes = MODELS[name], group(gpu, nodes=8)
    layout = Layout(tp, pp, dp, tp * dp if spread else 1)
    if illegal(model, layout, nodes):
        return
    assert tp <= min(nodes.gpus_per_node, nodes.gpu.nvlink_domain_gpus)
    assert model.num_attention_heads % tp == 0
    assert pp <= model.num_layers
    assert layout.ep == 1 or (model.moe is not None and model.moe.num_experts % layout.ep == 0)
    assert dp == 1 or layout.ep == tp * dp
