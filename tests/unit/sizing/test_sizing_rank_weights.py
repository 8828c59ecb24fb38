"""Weights of a rank, by hand and as properties."""

from dataclasses import replace
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sizing_cases import DEEPSEEK, GPT_OSS, LLAMA_8B, MODELS, SMOL, shared_model

from rayserve_par.hardware import gpu_by_name
from rayserve_par.model import ModelSpec
from rayserve_par.model.component import Component
from rayserve_par.sizing.rank_weights import (
    ExpertPadding,
    RankSplit,
    WeightCuts,
    cut_features,
    expert_padding,
    rotary_table_bytes,
    stages_weight_bytes,
)
from rayserve_par.sizing.stages import stage_ranges


def held(model: ModelSpec, split: RankSplit, stage: int = 0) -> dict[Component, float]:
    return stages_weight_bytes(model, WeightCuts(split), stage_ranges(model.num_layers, split.pp))[
        stage
    ]


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
        # 32 layers over three stages: 11, 11 and 10.
        (LLAMA_8B, RankSplit(pp=3), 2, Component.DENSE_MLP, 10 * 3 * 4096 * 14336),
        (LLAMA_8B, RankSplit(pp=3), 1, Component.DENSE_MLP, 11 * 3 * 4096 * 14336),
    ],
)
def test_parameters_on_a_rank_by_hand(
    model: ModelSpec, split: RankSplit, stage: int, component: Component, parameters: int
) -> None:
    assert held(model, split, stage).get(component, 0) == 2 * parameters


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
    part = held(DEEPSEEK, split)
    experts = Component.ROUTED_EXPERTS
    assert part[experts] == pytest.approx(whole[experts] * share, rel=1e-3)
    assert part[Component.ROUTER] == whole[Component.ROUTER]


def test_attention_is_replicated_on_dp_ranks() -> None:
    alone, beside = RankSplit(tp=4, ep=4), RankSplit(tp=4, dp=4, ep=16)
    part = Component.ATTENTION
    assert held(DEEPSEEK, alone)[part] == held(DEEPSEEK, beside)[part]


def test_decoding_copies_quantised_up_projections() -> None:
    # kv_b_proj: 128 heads x (128 + 128) rows of 512, once in FP8 and once more in 16 bits.
    quantised = held(DEEPSEEK, RankSplit(tp=8))[Component.ATTENTION]
    part = WeightCuts(RankSplit(tp=8))
    (matrix,) = (m for m in DEEPSEEK.layers[0].matrices if m.name.endswith("kv_b_proj"))
    values = 16 * 256 * 512
    assert part.matrix_bytes(matrix) == pytest.approx(values * (1 + 2), rel=1e-3)
    assert quantised > 61 * part.matrix_bytes(matrix)
    plain = shared_model("deepseek-ai/DeepSeek-V2-Lite")
    whole = plain.weight_bytes_by_component[Component.ATTENTION]
    assert held(plain, RankSplit())[Component.ATTENTION] == whole


@pytest.mark.parametrize(
    ("redundant", "ep", "experts"), [(0, 8, 32), (32, 8, 36), (1, 8, 33), (32, 32, 9), (0, 3, 86)]
)
def test_redundant_experts_and_uneven_shares(redundant: int, ep: int, experts: int) -> None:
    split = RankSplit(dp=ep, ep=ep)
    cuts = WeightCuts(split, redundant)
    (found,) = stages_weight_bytes(DEEPSEEK, cuts, stage_ranges(DEEPSEEK.num_layers, 1))
    whole = DEEPSEEK.weight_bytes_by_component[Component.ROUTED_EXPERTS]
    assert found[Component.ROUTED_EXPERTS] == pytest.approx(whole * experts / 256, rel=1e-9)


def test_shared_experts_are_whole_where_layers_run_on_sequence_shards() -> None:
    part = Component.SHARED_EXPERTS
    whole = DEEPSEEK.weight_bytes_by_component[part]
    assert held(DEEPSEEK, RankSplit(tp=8, dp=2, ep=16))[part] == whole
    assert held(DEEPSEEK, RankSplit(tp=8, ep=8))[part] == pytest.approx(whole / 8, rel=1e-3)


def test_mtp_layers_join_the_last_stage() -> None:
    model = replace(DEEPSEEK, mtp_layers=DEEPSEEK.layers[-1:])
    ranges = stage_ranges(model.num_layers, 2)
    cuts = WeightCuts(RankSplit(pp=2))
    without = stages_weight_bytes(model, cuts, ranges)
    found = stages_weight_bytes(model, cuts, ranges, with_mtp=True)
    assert found[0] == without[0]
    one = sum(cuts.matrix_bytes(matrix) for matrix in DEEPSEEK.layers[-1].matrices)
    assert sum(found[1].values()) - sum(without[1].values()) == pytest.approx(one)


def test_mxfp4_shares_are_padded_to_whole_blocks() -> None:
    # 2880 / 32 = 90 blocks; over 8 ranks 12 blocks of 32 = 384 on each, not 360.
    assert cut_features(2880, 8, 32, pads_blocks=True) == 384
    assert cut_features(2880, 8, 1, pads_blocks=True) == 360
    assert cut_features(2880, 1, 32, pads_blocks=True) == 2880
    part = Component.ROUTED_EXPERTS
    padded = 8 * held(GPT_OSS, RankSplit(tp=8))[part]
    assert padded / GPT_OSS.weight_bytes_by_component[part] == pytest.approx(384 / 360, rel=0.01)


@pytest.mark.parametrize(
    ("gpu", "padding"),
    [
        ("H100", ExpertPadding(64, 1, 256)),
        ("A100-80", ExpertPadding(128, 256)),
        ("B200", ExpertPadding(128, 256)),
        ("MI300X", ExpertPadding(256, 256)),
    ],
)
def test_padding_of_experts_by_gpu(gpu: str, padding: ExpertPadding) -> None:
    assert expert_padding(gpu_by_name(gpu)) == padding


@pytest.mark.parametrize(
    ("padding", "factor"),
    [
        # Hopper: values of 2880 inputs as 3072, scales as they are.
        (ExpertPadding(64, 1, 256), (4 * 3072 / 2880 + 0.25) / 4.25),
        (ExpertPadding(128, 256), 2944 * 3072 / 2880**2),
    ],
)
def test_padded_experts_by_hand(padding: ExpertPadding, factor: float) -> None:
    matrices = [
        matrix
        for matrix in GPT_OSS.layers[0].matrices
        if matrix.component is Component.ROUTED_EXPERTS and not matrix.is_vector
    ]
    plain, padded = WeightCuts(RankSplit()), WeightCuts(RankSplit(), padding=padding)
    before = sum(plain.matrix_bytes(matrix) for matrix in matrices)
    after = sum(padded.matrix_bytes(matrix) for matrix in matrices)
    assert after / before == pytest.approx(factor, rel=1e-3)


def test_rotary_tables() -> None:
    assert rotary_table_bytes(LLAMA_8B) == 131072 * 128 * 2
    assert rotary_table_bytes(DEEPSEEK) == 163840 * 64 * 2
    two = shared_model("google/gemma-4-26B-A4B")  # local heads of 256, global heads of 512
    assert rotary_table_bytes(two) == 262144 * (256 + 512) * 2


SPLITS = st.builds(
    lambda tp, pp, dp, whole: RankSplit(tp, pp, dp, tp * dp if whole else 1),
    st.sampled_from([1, 2, 4, 8]),
    st.integers(1, 4),
    st.sampled_from([1, 2, 4]),
    st.booleans(),
)


@settings(max_examples=150)
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


@settings(max_examples=60)
@given(st.sampled_from(sorted(MODELS)), st.integers(1, 8))
def test_stages_of_one_rank_sum_to_the_whole(name: str, pp: int) -> None:
    """PP alone repeats a tied embedding and rounds the vocabulary, and adds decoding's copies."""
    model = MODELS[name]
    whole = sum(held(model, RankSplit()).values())
    stages = [sum(held(model, RankSplit(pp=pp), stage).values()) for stage in range(pp)]
    again = 0.0
    if model.tied_embeddings and pp > 1:
        rows = ceil(model.vocab_size / 64) * 64
        again = rows * model.hidden_size * model.embedding.format.bits / 8
    assert sum(stages) == pytest.approx(whole + again, rel=1e-9)
