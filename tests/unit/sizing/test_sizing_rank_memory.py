"""Memory of a rank as a whole: what decides, what is shown, and what always holds."""

from dataclasses import replace
from time import perf_counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sizing_cases import DEEPSEEK, LLAMA_8B, MODELS, QWEN, hybrid, windowed

from rayserve_par.errors import RefusedError
from rayserve_par.hardware import gpu_by_name
from rayserve_par.model import ModelSpec
from rayserve_par.sizing import (
    EngineOptions,
    RankSplit,
    beside_rule,
    size_by_rule,
    stage_memories,
    worst_rank_memory,
)

H200 = gpu_by_name("H200")
ALL = {**MODELS, "hybrid": hybrid(), "windowed": windowed(29, 5)}


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
        # Windows and states cost a long request nothing per token.
        (windowed(29, 5), RankSplit(), 5 * 2 * 4 * 256 * 2),
        (hybrid(), RankSplit(), 16 * 2 * 4 * 256 * 2),
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


def test_fp8_cache_doubles_the_tokens() -> None:
    full = worst_rank_memory(LLAMA_8B, H200, RankSplit())
    half = worst_rank_memory(LLAMA_8B, H200, RankSplit(), EngineOptions(kv_cache_bits=8))
    assert half.kv_tokens == pytest.approx(2 * full.kv_tokens, abs=32)


def test_more_stages_than_layers_are_refused() -> None:
    with pytest.raises(RefusedError, match="32 layers cannot make 33 PP stages"):
        worst_rank_memory(LLAMA_8B, H200, RankSplit(pp=33))


def test_a_utilization_of_its_own() -> None:
    given_so = worst_rank_memory(LLAMA_8B, H200, RankSplit(), gpu_memory_utilization=0.5)
    options = EngineOptions(gpu_memory_utilization=0.5)
    assert given_so == worst_rank_memory(LLAMA_8B, H200, RankSplit(), options)


def test_lines_show_the_numbers() -> None:
    found = worst_rank_memory(DEEPSEEK, H200, RankSplit(tp=8, dp=2, ep=16))
    text = "\n".join(found.lines)
    assert f"{found.kv_tokens:,}" in text
    assert f"2 DP ranks x {found.kv_tokens:,} = {found.kv_tokens_per_instance:,}" in text
    assert "139.72 GiB usable x 0.9 = 125.75 GiB" in text
    assert "tokens gathered from all DP ranks" in text
    assert "1 group of all tokens: 1 x ceil(163,840 / 64) = 2,560 blocks" in text


def test_lines_of_a_hybrid_show_every_group() -> None:
    text = "\n".join(worst_rank_memory(hybrid(), H200, RankSplit()).lines)
    assert "3 groups of states: 3 x 2 = 6 blocks" in text
    assert "1 group of all tokens: 1 x ceil(262,144 / 784) = 335 blocks" in text
    text = "\n".join(worst_rank_memory(windowed(29, 5), H200, RankSplit()).lines)
    assert "6 groups of windows: 6 x (ceil(min(1,024 - 1 + 16,384 in flight, 131,072) / 16)" in text


def test_the_rule_stands_beside() -> None:
    memory = worst_rank_memory(LLAMA_8B, H200, RankSplit(tp=2))
    lines = beside_rule(size_by_rule(LLAMA_8B, H200, 8), memory, 2)
    assert lines[0].startswith("rule of thumb: 28.9 GB / 2 GPUs = 14.5 GB a GPU (8.0 weights + 6.4")
    assert "weights 8.1 + reserve" in lines[1]
    assert lines[2].startswith("weights +0.0 GB")


def test_requests_of_a_hybrid_cost_their_states() -> None:
    found = worst_rank_memory(hybrid(), H200, RankSplit())
    short, long = found.requests_at(100), found.requests_at(100_000)
    assert short == (found.pool.blocks - 1) / (6 + 1)
    assert long == (found.pool.blocks - 1) / (6 + 128)


def test_it_is_fast() -> None:
    models = [ALL["hybrid"], DEEPSEEK, QWEN]
    splits = [RankSplit(tp=8), RankSplit(tp=4, pp=2), RankSplit(tp=2, dp=4, ep=8)]
    best = float("inf")
    for _ in range(3):
        start = perf_counter()
        for model in models:
            for split in splits:
                worst_rank_memory(model, H200, split)
        best = min(best, (perf_counter() - start) / 9)
    assert best < 0.003


SPLITS = st.builds(
    lambda tp, pp, dp, whole: RankSplit(tp, pp, dp, tp * dp if whole else 1),
    st.sampled_from([1, 2, 4, 8]),
    st.integers(1, 4),
    st.sampled_from([1, 2, 4]),
    st.booleans(),
)
VERSIONS = st.sampled_from([(0, 11), (0, 19), (0, 25), (0, 32)])


@settings(max_examples=100)
@given(
    st.sampled_from(sorted(ALL)),
    SPLITS,
    st.sampled_from(["L4", "H100", "H200", "B300", "logical-cpu"]),
    st.floats(0.1, 1.0),
    VERSIONS,
    st.integers(1, 100_000),
)
def test_bytes_never_exceed_memory(
    name: str,
    split: RankSplit,
    gpu: str,
    utilization: float,
    version: tuple[int, int],
    tokens: int,
) -> None:
    options = EngineOptions(gpu_memory_utilization=utilization, version=version)
    for found in stage_memories(ALL[name], gpu_by_name(gpu), split, options):
        pool = found.pool
        used = found.weight_bytes + found.reserve_bytes + pool.blocks * pool.block_bytes
        if found.kv_bytes >= 0:
            assert used <= found.budget_bytes * (1 + 1e-12)
        else:
            assert (pool.blocks, found.kv_tokens) == (0, 0)
        headroom = found.headroom_bytes(tokens)
        if abs(headroom) > 1:  # a byte of rounding in sums of floats
            assert found.fits(tokens) == (headroom > 0)


@settings(max_examples=100)
@given(
    st.sampled_from(sorted(ALL)),
    SPLITS,
    st.floats(0.1, 0.9),
    st.floats(0, 0.1),
    st.floats(0, 100),
    VERSIONS,
)
def test_more_memory_never_yields_fewer_tokens(
    name: str,
    split: RankSplit,
    utilization: float,
    more: float,
    gib: float,
    version: tuple[int, int],
) -> None:
    def tokens(share: float, added: float) -> int:
        options = EngineOptions(
            gpu_memory_utilization=share,
            version=version,
            max_num_batched_tokens=4096,
            max_num_seqs=256,
        )
        gpu = replace(H200, usable_gib=H200.usable_gib + added)
        return worst_rank_memory(ALL[name], gpu, split, options).kv_tokens

    base = tokens(utilization, 0)
    assert tokens(utilization + more, 0) >= base
    assert tokens(utilization, gib) >= base


@settings(max_examples=60)
@given(st.sampled_from(sorted(ALL)), SPLITS, st.integers(1, 200_000), st.integers(0, 200_000))
def test_longer_requests_never_fit_more_often(
    name: str, split: RankSplit, tokens: int, more: int
) -> None:
    found = worst_rank_memory(ALL[name], H200, split)
    assert found.requests_at(tokens + more) <= found.requests_at(tokens)
    assert found.headroom_bytes(tokens + more) <= found.headroom_bytes(tokens)
    if found.fits(tokens + more):
        assert found.fits(tokens)
