"""Memory per rank against engines that were measured, by hand, and as properties."""

from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rayserve_par.errors import RefusedError
from rayserve_par.hardware import GIB, gpu_by_name
from rayserve_par.model import ModelSpec, known_config, known_names, model_spec_from_config
from rayserve_par.model.precision import Component
from rayserve_par.sizing.rank_memory import RankMemory, stage_memories, worst_rank_memory
from rayserve_par.sizing.rank_weights import RankSplit, cut_features, stage_weight_bytes
from rayserve_par.sizing.stages import stage_ranges

MODELS = {name: model_spec_from_config(known_config(name) or {}, name) for name in known_names()}
SMOL = MODELS["HuggingFaceTB/SmolLM2-135M-Instruct"]
LLAMA_8B = MODELS["meta-llama/Llama-3.1-8B-Instruct"]
LLAMA_70B = MODELS["nvidia/Llama-3.3-70B-Instruct-FP8"]
QWEN = MODELS["Qwen/Qwen3-235B-A22B-FP8"]
DEEPSEEK = MODELS["deepseek-ai/DeepSeek-V3.1"]
GPT_OSS = MODELS["openai/gpt-oss-120b"]
H200 = gpu_by_name("H200")
QWEN3_30B = model_spec_from_config(
    {
        "model_type": "qwen3_moe",
        "num_hidden_layers": 48,
        "hidden_size": 2048,
        "head_dim": 128,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "moe_intermediate_size": 768,
        "intermediate_size": 6144,
        "vocab_size": 151936,
        "max_position_embeddings": 40960,
    },
    "Qwen/Qwen3-30B-A3B",
)
DEEPSEEK_LITE = model_spec_from_config(
    {
        "model_type": "deepseek_v2",
        "num_hidden_layers": 27,
        "hidden_size": 2048,
        "num_attention_heads": 16,
        "kv_lora_rank": 512,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
        "n_routed_experts": 64,
        "n_shared_experts": 2,
        "num_experts_per_tok": 6,
        "moe_intermediate_size": 1408,
        "intermediate_size": 10944,
        "first_k_dense_replace": 1,
        "vocab_size": 102400,
        "max_position_embeddings": 163840,
    },
    "deepseek-ai/DeepSeek-V2-Lite",
)


@pytest.mark.parametrize(
    ("model", "tp", "weights_gib", "kv_tokens"),
    [
        # vLLM 0.25 on H200, gpu_memory_utilization 0.92, as its log says.
        (LLAMA_8B, 1, 15.0, 914304),
        (LLAMA_8B, 2, 7.54, 1957568),
        (QWEN3_30B, 1, 56.88, 759040),
        (DEEPSEEK_LITE, 1, 29.32, 3362816),
    ],
    ids=["llama8b-tp1", "llama8b-tp2", "qwen30b", "deepseek-v2-lite"],
)
def test_measured_engines(model: ModelSpec, tp: int, weights_gib: float, kv_tokens: int) -> None:
    found = worst_rank_memory(model, H200, RankSplit(tp=tp), gpu_memory_utilization=0.92)
    assert found.weight_bytes / GIB == pytest.approx(weights_gib, rel=0.01)
    assert found.kv_tokens == pytest.approx(kv_tokens, rel=0.02)


@pytest.mark.parametrize(
    ("model", "split", "stage", "component", "parameters"),
    [
        # Both ends hold the tied embedding when there are stages; one copy when there are none.
        (SMOL, RankSplit(), 0, Component.EMBEDDING, 49152 * 576),
        (SMOL, RankSplit(pp=2), 0, Component.EMBEDDING, 49152 * 576),
        (SMOL, RankSplit(pp=2), 1, Component.EMBEDDING, 49152 * 576),
        (SMOL, RankSplit(pp=3), 1, Component.EMBEDDING, 0),
        (SMOL, RankSplit(tp=3), 0, Component.EMBEDDING, 49152 * 576 // 3),
        (LLAMA_8B, RankSplit(pp=2), 1, Component.EMBEDDING, 0),
        (LLAMA_8B, RankSplit(pp=2), 1, Component.HEAD, 128256 * 4096),
        (LLAMA_8B, RankSplit(tp=4, pp=2), 1, Component.HEAD, 128256 * 4096 // 4),
        # 8 KV heads over 16 ranks: one head each, twice.
        (
            LLAMA_8B,
            RankSplit(tp=16),
            0,
            Component.ATTENTION,
            32 * (2 * 4096 * 4096 // 16 + 2 * 128 * 4096),
        ),
        (LLAMA_8B, RankSplit(tp=4), 0, Component.DENSE_MLP, 32 * 3 * 4096 * 14336 // 4),
        # Norms are whole on every rank.
        (LLAMA_8B, RankSplit(tp=4), 0, Component.NORMS, 65 * 4096),
    ],
)
def test_parameters_on_a_rank_by_hand(
    model: ModelSpec, split: RankSplit, stage: int, component: Component, parameters: int
) -> None:
    assert held(model, split, stage).get(component, 0) == 2 * parameters


def held(model: ModelSpec, split: RankSplit, stage: int) -> dict[Component, float]:
    layers = stage_ranges(model.num_layers, split.pp)[stage]
    first, last = stage == 0, stage == split.pp - 1
    return stage_weight_bytes(model, split, layers, first=first, last=last)


@pytest.mark.parametrize(
    ("split", "share"),
    [
        (RankSplit(tp=8), 1 / 8),
        (RankSplit(tp=8, ep=8), 1 / 8),
        (RankSplit(tp=8, dp=2, ep=16), 1 / 16),
        (RankSplit(tp=1, dp=4, ep=4), 1 / 4),
    ],
)
def test_experts_are_shared_by_all_ranks_of_the_ep_group(split: RankSplit, share: float) -> None:
    whole = DEEPSEEK.weight_bytes_by_component
    part = held(DEEPSEEK, split, 0)
    experts = Component.ROUTED_EXPERTS
    assert part[experts] == pytest.approx(whole[experts] * share, rel=1e-3)
    attention = part[Component.ATTENTION] / whole[Component.ATTENTION]
    # Attention is cut by TP alone: replicated on every DP rank. MLA's down-projections stay whole.
    assert 1 / split.tp <= attention < 1 / split.tp + 0.2


def test_shared_experts_are_whole_where_layers_run_on_sequence_shards() -> None:
    part = Component.SHARED_EXPERTS
    whole = DEEPSEEK.weight_bytes_by_component[part]
    assert held(DEEPSEEK, RankSplit(tp=8, dp=2, ep=16), 0)[part] == whole
    assert held(DEEPSEEK, RankSplit(tp=8, ep=8), 0)[part] == pytest.approx(whole / 8, rel=1e-3)


def test_mxfp4_shares_are_padded_to_whole_blocks() -> None:
    # 2880 / 32 = 90 blocks; over 8 ranks 12 blocks of 32 = 384 on each, not 360.
    assert cut_features(2880, 8, 32, pads_blocks=True) == 384
    assert cut_features(2880, 8, 1, pads_blocks=True) == 360
    assert cut_features(2880, 1, 32, pads_blocks=True) == 2880
    part = Component.ROUTED_EXPERTS
    padded = 8 * held(GPT_OSS, RankSplit(tp=8), 0)[part]
    assert padded / GPT_OSS.weight_bytes_by_component[part] == pytest.approx(384 / 360, rel=0.01)


@pytest.mark.parametrize(
    ("model", "split", "per_token"),
    [
        (LLAMA_8B, RankSplit(), 32 * 2 * 8 * 128 * 2),
        (LLAMA_8B, RankSplit(tp=8), 32 * 2 * 1 * 128 * 2),
        (LLAMA_8B, RankSplit(tp=16), 32 * 2 * 1 * 128 * 2),
        (LLAMA_8B, RankSplit(pp=4), 8 * 2 * 8 * 128 * 2),
        (QWEN, RankSplit(tp=8, ep=8), 94 * 2 * 1 * 128 * 2),
        (DEEPSEEK, RankSplit(tp=1), 61 * 576 * 2),
        (DEEPSEEK, RankSplit(tp=8), 61 * 576 * 2),
        (DEEPSEEK, RankSplit(tp=8, pp=2), 31 * 576 * 2),
    ],
)
def test_kv_bytes_per_token_per_rank(model: ModelSpec, split: RankSplit, per_token: int) -> None:
    stages = stage_memories(model, H200, split)
    assert max(stage.kv_bytes_per_token_per_rank for stage in stages) == per_token


def test_the_last_stage_with_a_large_head_decides() -> None:
    found = worst_rank_memory(LLAMA_8B, H200, RankSplit(pp=2))
    stages = stage_memories(LLAMA_8B, H200, RankSplit(pp=2))
    assert found.stage == 1  # equal layers, but the final norm besides the head
    assert found.kv_tokens == min(stage.kv_tokens for stage in stages)


@pytest.mark.parametrize("utilization", [0, -0.1, 1.01])
def test_a_utilization_that_cannot_be(utilization: float) -> None:
    with pytest.raises(RefusedError, match="gpu_memory_utilization"):
        worst_rank_memory(SMOL, H200, RankSplit(), gpu_memory_utilization=utilization)


def test_lines_show_the_numbers() -> None:
    found = worst_rank_memory(DEEPSEEK, H200, RankSplit(tp=8, dp=2, ep=16))
    text = "\n".join(found.lines)
    assert f"{found.kv_tokens:,}" in text
    assert f"2 DP ranks x {found.kv_tokens:,} = {found.kv_tokens_per_instance:,}" in text
    assert "139.72 GiB usable x 0.9 = 125.75 GiB" in text


def test_shortage_shows_which_side_is_larger() -> None:
    found = worst_rank_memory(LLAMA_70B, gpu_by_name("H100"), RankSplit())
    assert not found.fits(16384)
    assert "> 71.26 GiB (79.18 GiB x 0.9)" in found.shortage(16384)
    assert "<= " in worst_rank_memory(LLAMA_70B, H200, RankSplit()).shortage(16384)


SPLITS = st.builds(
    lambda tp, pp, dp, whole: RankSplit(tp, pp, dp, tp * dp if whole else 1),
    st.sampled_from([1, 2, 4, 8]),
    st.integers(1, 4),
    st.sampled_from([1, 2, 4]),
    st.booleans(),
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(MODELS)), SPLITS)
def test_the_parts_of_all_ranks_hold_the_whole(name: str, split: RankSplit) -> None:
    """Every rank of a stage holds the same, and together no less than the model (or dp of it)."""
    model = MODELS[name]
    together: dict[Component, float] = {}
    for stage in range(split.pp):
        for part, size in held(model, split, stage).items():
            together[part] = together.get(part, 0) + size * split.tp * split.dp
    for part, size in model.weight_bytes_by_component.items():
        copies = 1 if part is Component.ROUTED_EXPERTS else split.dp
        assert together[part] >= copies * size * (1 - 1e-9), part


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(sorted(MODELS)),
    SPLITS,
    st.sampled_from(["L4", "H100", "H200", "B300", "logical-cpu"]),
    st.floats(0.1, 1.0),
)
def test_bytes_never_exceed_memory(
    name: str, split: RankSplit, gpu: str, utilization: float
) -> None:
    model = MODELS[name]
    found = worst_rank_memory(model, gpu_by_name(gpu), split, gpu_memory_utilization=utilization)
    assert found.kv_tokens % 16 == 0
    if found.kv_tokens:
        assert found.needed_bytes(found.kv_tokens) <= found.budget_bytes
        assert found.needed_bytes(found.kv_tokens + 16) > found.budget_bytes
    else:
        assert found.needed_bytes(16) > found.budget_bytes
    assert found.fits(found.kv_tokens)
    assert not found.fits(found.kv_tokens + 1)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(MODELS)), SPLITS, st.floats(0.1, 0.9), st.floats(0, 0.1))
def test_more_memory_never_yields_fewer_tokens(
    name: str, split: RankSplit, utilization: float, more: float
) -> None:
    def tokens(share: float) -> RankMemory:
        return worst_rank_memory(MODELS[name], H200, split, gpu_memory_utilization=share)

    assert tokens(utilization + more).kv_tokens >= tokens(utilization).kv_tokens


def test_uneven_experts_count_the_fuller_rank() -> None:
    layers = range(DEEPSEEK.num_layers)
    split = RankSplit(tp=1, dp=3, ep=3)
    part = stage_weight_bytes(DEEPSEEK, split, layers, first=True, last=True)
    whole = DEEPSEEK.weight_bytes_by_component
    share = ceil(256 / 3) / 256
    experts = Component.ROUTED_EXPERTS
    assert part[experts] == pytest.approx(whole[experts] * share, rel=1e-9)
