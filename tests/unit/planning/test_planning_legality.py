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
from published_models import published, published_names

from rayserve_par.hardware import NodeGroup, gpu_names
from rayserve_par.model import ModelSpec
from rayserve_par.model.component import Component
from rayserve_par.model.matrix import Split
from rayserve_par.planning import Layout, illegal
from rayserve_par.planning.legality import split_of
from rayserve_par.sizing.rank_weights import matrix_on_rank

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
                "3 KV heads and TP 2 do not divide each other: 3 / 2 = 1.5, 2 / 3 = 0.67",
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
            group("GB200"),
            ("TP 8 exceeds a node's 4 x GB200: 8 > 4",),
        ),
        (
            dense_model(
                num_attention_heads=24, num_key_value_heads=24, head_dim=64, intermediate_size=4608
            ),
            Layout(tp=6),
            group("GB200", nodes=18),
            (
                "TP 6 over several nodes of an NVLink domain takes whole nodes: 6 / 4 GPUs = 1.5 "
                "nodes",
                "a vocabulary of 32000, padded to 32000, is not divisible by TP 6: 32000 / 6 = "
                "5333.33",
            ),
        ),
        (
            dense_model(
                num_attention_heads=80, num_key_value_heads=80, head_dim=64, intermediate_size=5120
            ),
            Layout(tp=80),
            group("GB300", nodes=36),
            ("TP 80 exceeds the NVLink domain of GB300: 80 > 72 GPUs",),
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
                "12 KV heads and TP 8 do not divide each other: 12 / 8 = 1.5, 8 / 12 = 0.67",
            ),
        ),
        (
            dense_model(intermediate_size=4098),
            Layout(tp=4),
            H200,
            (
                "4098 values of the MLP's intermediate size are not divisible by TP 4: "
                "4098 / 4 = 1024.5",
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
    model = dense_model(
        num_attention_heads=48, hidden_size=3072, intermediate_size=6144, vocab_size=49152
    )
    assert illegal(model, Layout(tp=8), H200) == ()
    reasons = illegal(model, Layout(tp=6), H200)
    assert reasons == ("4 KV heads and TP 6 do not divide each other: 4 / 6 = 0.67, 6 / 4 = 1.5",)


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


BIG = group("GB300", nodes=18)
MINIMAX, QWEN_30B = "MiniMaxAI--MiniMax-M2.5", "Qwen--Qwen3-30B-A3B-FP8"
MIMO, KIMI_K3 = "XiaomiMiMo--MiMo-V2-Flash", "moonshotai--Kimi-K3"
QWEN_HYBRID = "Qwen--Qwen3.5-397B-A17B"
STEP = "stepfun-ai--Step-3.7-Flash-FP8"


@pytest.mark.parametrize(
    ("name", "layout", "nodes"),
    [
        (MINIMAX, Layout(tp=4), H200),
        (MINIMAX, Layout(tp=8, ep=8), H200),
        ("Qwen--Qwen3-235B-A22B-FP8", Layout(tp=4), H200),
        ("Qwen--Qwen3-235B-A22B-FP8", Layout(tp=8, ep=8), H200),
        (QWEN_30B, Layout(tp=4, ep=4), H200),
        (QWEN_HYBRID, Layout(tp=16), BIG),
        (KIMI_K3, Layout(tp=8, pp=2), H200),  # 12 vision heads: the tower is whole on every rank
        (KIMI_K3, Layout(tp=16), BIG),
        (MIMO, Layout(tp=4), H200),  # KV heads of 192 values are quantised by heads
        (STEP, Layout(dp=4, ep=4), H200),
        ("deepseek-ai--DeepSeek-V4-Pro", Layout(tp=8, ep=8), H200),
        ("deepseek-ai--DeepSeek-V4-Pro", Layout(tp=4, dp=4, ep=16), BIG),
        ("nvidia--NVIDIA-Nemotron-3-Ultra-550B-A55B-NVFP4", Layout(tp=8, ep=8), H200),
        ("meta-llama--Llama-4-Maverick-17B-128E-Instruct", Layout(tp=8), H200),
    ],
)
def test_published_models_run_so(name: str, layout: Layout, nodes: NodeGroup) -> None:
    assert illegal(published(name), layout, nodes) == ()


@pytest.mark.parametrize(
    ("name", "layout", "reason"),
    [
        (
            MINIMAX,
            Layout(tp=8),
            "routed_experts (gate_proj): 1536 / TP 8 = 192 is not a multiple of the "
            "fp8-block128 block of 128: 192 / 128 = 1.5",
        ),
        (
            QWEN_30B,
            Layout(tp=4),
            "routed_experts (gate_proj): 768 / TP 4 = 192 is not a multiple of the "
            "fp8-block128 block of 128: 192 / 128 = 1.5",
        ),
        (
            QWEN_HYBRID,
            Layout(tp=32),
            "16 key heads of linear attention are not divisible by TP 32: 16 / 32 = 0.5",
        ),
        (
            "nvidia--NVIDIA-Nemotron-3-Nano-30B-A3B-BF16",
            Layout(tp=16),
            "8 Mamba groups are not divisible by TP 16: 8 / 16 = 0.5",
        ),
        (
            "deepseek-ai--DeepSeek-V4-Flash",
            Layout(tp=16),
            "8 output groups of attention are not divisible by TP 16: 8 / 16 = 0.5",
        ),
        (
            "meta-llama--Llama-4-Scout-17B-16E-Instruct",
            Layout(tp=16),
            "40 attention heads are not divisible by TP 16: 40 / 16 = 2.5",
        ),
        (
            "meta-llama--Llama-4-Scout-17B-16E-Instruct",
            Layout(tp=8, dp=4, ep=32),
            "16 experts are not divisible by EP 32: 16 / 32 = 0.5",
        ),
        (
            "nvidia--Gemma-4-26B-A4B-NVFP4",
            Layout(tp=8),
            "routed_experts (down_proj): 704 / TP 8 = 88 is not a multiple of the nvfp4 block of "
            "16: 88 / 16 = 5.5",
        ),
        (
            STEP,
            Layout(tp=4, ep=4),
            "shared_experts (gate_proj): 1280 / TP 4 = 320 is not a multiple of the "
            "fp8-block128 block of 128: 320 / 128 = 2.5",
        ),
        (
            "deepseek-ai--DeepSeek-V3",
            Layout(pp=62),
            "61 layers cannot make 62 PP stages: each needs at least one",
        ),
    ],
)
def test_published_models_cannot_run_so(name: str, layout: Layout, reason: str) -> None:
    assert reason in illegal(published(name), layout, BIG)


def test_a_model_that_fits_twelve_gpus_needs_sixteen_or_stages() -> None:
    model = moe_model(num_attention_heads=64, hidden_size=8192, vocab_size=248320)
    assert illegal(model, Layout(tp=12), BIG)[:2] == (
        "64 attention heads are not divisible by TP 12: 64 / 12 = 5.33",
        "a vocabulary of 248320, padded to 248320, is not divisible by TP 12: 248320 / 12 = "
        "20693.33",
    )
    assert illegal(model, Layout(tp=16), BIG) == ()
    assert illegal(model, Layout(tp=4, pp=3), BIG) == ()


@pytest.mark.parametrize("layout", [Layout(tp=8, dp=2, ep=4), Layout(tp=4, dp=2)])
def test_other_engines_mix_what_vllm_does_not(layout: Layout) -> None:
    assert illegal(MODELS[DEEPSEEK], layout, H200)
    assert illegal(MODELS[DEEPSEEK], layout, H200, engine="trtllm") == ()


@settings(max_examples=200)
@given(
    st.sampled_from(sorted(MODELS) + published_names()),
    st.sampled_from([1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 36, 64, 72]),
    st.integers(1, 3),
    st.booleans(),
)
def test_the_parts_of_a_legal_layout_sum_to_the_whole(
    name: str, tp: int, dp: int, spread: bool
) -> None:
    """Every cut matrix is shared without rest; only KV heads are repeated."""
    model = MODELS.get(name) or published(name)
    layout = Layout(tp, 1, dp, tp * dp if spread else 1)
    if illegal(model, layout, group("GB200", nodes=18), engine="sglang"):
        return
    for layer, _ in model.layer_counts:
        for matrix in layer.matrices:
            part = matrix_on_rank(matrix, split_of(layout))
            ranks = tp
            if matrix.component is Component.ROUTED_EXPERTS:
                ranks = tp * dp
            elif matrix.split is Split.WHOLE or part == matrix:
                ranks = 1
            elif matrix.split is Split.KV_HEADS:
                ranks = min(tp, matrix.out_features // matrix.head_features)
            if matrix.split is Split.WHOLE and matrix.component is Component.ROUTED_EXPERTS:
                ranks = layout.ep
            if matrix.format.pads_blocks:
                assert part.parameters * ranks >= matrix.parameters
            else:
                assert part.parameters * ranks == matrix.parameters, matrix.name


@settings(max_examples=300)
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
    assert tp <= nodes.gpu.nvlink_domain_gpus
    assert tp <= nodes.gpus_per_node or tp % nodes.gpus_per_node == 0
    assert model.num_attention_heads % tp == 0
    assert pp <= model.num_layers
    assert layout.ep == 1 or (model.moe is not None and model.moe.num_experts % layout.ep == 0)
    assert dp == 1 or layout.ep == tp * dp
