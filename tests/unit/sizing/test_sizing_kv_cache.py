"""Groups, blocks and tokens as vLLM makes them, by hand and against its logs."""

from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sizing_cases import DEEPSEEK, GPT_OSS, LLAMA_8B, hybrid, shared_model, windowed

from rayserve_par.hardware import gpu_by_name
from rayserve_par.model import ModelSpec
from rayserve_par.sizing import EngineOptions, RankSplit, worst_rank_memory
from rayserve_par.sizing.kv_cache import KvGroup, KvLayout, KvPool, kv_layout
from rayserve_par.sizing.stages import stage_ranges

H200 = gpu_by_name("H200")


def layout(model: ModelSpec, tp: int = 1, pp: int = 1, **options: object) -> KvLayout:
    ranges = stage_ranges(model.num_layers, pp)
    return kv_layout(model, tp, ranges, EngineOptions(**options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("model", "tp", "pp", "block_bytes"),
    [
        (LLAMA_8B, 1, 1, (16 * 32 * 2 * 8 * 128 * 2,)),
        (LLAMA_8B, 16, 1, (16 * 32 * 2 * 1 * 128 * 2,)),
        (LLAMA_8B, 1, 3, tuple(16 * n * 2 * 8 * 128 * 2 for n in (11, 11, 10))),
        # MLA is not divided by TP; its block is 64 tokens.
        (DEEPSEEK, 1, 1, (64 * 61 * 576 * 2,)),
        (DEEPSEEK, 8, 2, (64 * 31 * 576 * 2, 64 * 30 * 576 * 2)),
        # 18 windows and 18 full layers share blocks of 18 pages.
        (GPT_OSS, 1, 1, (16 * 18 * 2 * 8 * 64 * 2,)),
        (GPT_OSS, 1, 2, (16 * 9 * 2 * 8 * 64 * 2,) * 2),
    ],
)
def test_block_bytes_by_hand(
    model: ModelSpec, tp: int, pp: int, block_bytes: tuple[int, ...]
) -> None:
    assert layout(model, tp, pp).block_bytes_by_stage == block_bytes


@pytest.mark.parametrize(
    ("window_layers", "full_layers", "groups", "pages"),
    [
        (29, 5, (6, 1), 5),  # gemma-3-4b: "Add 1 padding layers"
        (52, 10, (6, 1), 10),  # gemma-3-27b
        (12, 12, (1, 1), 12),
        (12, 13, (1, 1), 13),  # nearly alike: padded to the larger
        (20, 30, (1, 2), 20),
        (24, 0, (1,), 24),
    ],
)
def test_groups_of_windows_and_full_layers(
    window_layers: int, full_layers: int, groups: tuple[int, ...], pages: int
) -> None:
    found = layout(windowed(window_layers, full_layers))
    assert tuple(group.groups for group in found.groups) == groups
    assert found.block_bytes_by_stage == (pages * 16 * 2 * 4 * 256 * 2,)


@pytest.mark.parametrize(
    ("model", "kv_cache_bits", "block_tokens"),
    [
        # "Setting attention block size to N tokens": docs.lmcache.ai/recipes/qwen3_5.html, and for
        # fp8 github.com/aivrar/vllm-windows-build/issues/17.
        (hybrid(), None, 784),
        (hybrid(), 8.0, 1568),
        (hybrid(linear_num_value_heads=16, num_key_value_heads=2), None, 544),
    ],
)
def test_attention_blocks_are_as_long_as_a_state(
    model: ModelSpec, kv_cache_bits: float | None, block_tokens: int
) -> None:
    found = layout(model, kv_cache_bits=kv_cache_bits)
    assert {group.block_tokens for group in found.groups} == {block_tokens}
    states, attention = found.groups
    assert (states.groups, attention.groups) == (3, 1)


@pytest.mark.parametrize(
    ("version", "speculative_tokens", "blocks"),
    [((0, 25), 0, 3), ((0, 32), 0, 6), ((0, 32), 3, 15)],
)
def test_states_of_a_request(
    version: tuple[int, int], speculative_tokens: int, blocks: int
) -> None:
    found = layout(hybrid(), version=version, speculative_tokens=speculative_tokens)
    assert found.groups[0].blocks(10**6, 0) == blocks


def test_a_hybrid_as_logged() -> None:
    # "GPU KV cache size: 290,864 tokens", "33.04x" for 32,768: github.com/vllm-project/vllm/issues
    # /40691. Any number of blocks from 1484 to 1487 gives the first, 1487 the second.
    groups = layout(hybrid(), version=(0, 19)).groups

    def pool(blocks: int, *, by_request: bool) -> KvPool:
        return KvPool(groups, 1.0, float(blocks), 32768, 16384, by_request)

    assert pool(1487, by_request=False).tokens == 290864
    assert pool(1487, by_request=True).tokens / 32768 == pytest.approx(33.04, abs=0.01)


def test_compressed_attention_as_logged() -> None:
    # github.com/vllm-project/vllm/issues/44376 (0.22) and 51041 (0.26, "150K tokens in 7.7 GiB").
    model = shared_model("deepseek-ai/DeepSeek-V4-Flash")
    options = EngineOptions(version=(0, 22), max_num_batched_tokens=16384, max_model_len=30000)
    pool = worst_rank_memory(model, H200, RankSplit(tp=2, ep=2), options).pool
    for tokens, gib in ((30000, 6.66), (13528, 5.44)):
        found = pool.blocks_of_request(tokens) * pool.block_bytes / 2**30
        assert found == pytest.approx(gib, rel=0.06)
    options = EngineOptions(version=(0, 26), max_num_batched_tokens=8192, max_model_len=121344)
    pool = worst_rank_memory(model, H200, RankSplit(tp=2, ep=2), options).pool
    blocks = 7.7 * 2**30 // pool.block_bytes
    assert blocks * 121344 / pool.blocks_of_request(121344) == pytest.approx(150_000, rel=0.1)


def test_sparse_mla_packs_an_fp8_token() -> None:
    model = shared_model("deepseek-ai/DeepSeek-V3.2")
    # 512 FP8 values, 4 scales, 64 bf16 values; the index: 128 values and a scale.
    assert layout(model, kv_cache_bits=8.0).block_bytes_by_stage == (64 * 61 * (656 + 132),)
    assert layout(model).block_bytes_by_stage == (64 * 61 * (1152 + 132),)


def test_a_window_keeps_no_more_than_itself() -> None:
    group = KvGroup(2, 16, window_tokens=128)
    assert group.blocks(64, 1) == 2 * (4 + 1)
    assert group.blocks(10**6, 1) == 2 * (8 + 1)
    assert group.blocks(10**6, 8192) == 2 * (ceil(8319 / 16) + 1)


@settings(max_examples=100)
@given(
    st.lists(
        st.builds(
            KvGroup,
            st.integers(1, 6),
            st.sampled_from([16, 64, 784]),
            st.sampled_from([None, 128, 4096]),
            st.sampled_from([0, 0, 1, 2]),
        ),
        min_size=1,
        max_size=3,
    ),
    st.floats(0, 1e11),
    st.floats(0, 1e9),
    st.integers(1, 10**6),
)
def test_a_pool_never_promises_more_than_it_has(
    groups: list[KvGroup], kv_bytes: float, more: float, tokens: int
) -> None:
    pool = KvPool(tuple(groups), 5e5, kv_bytes, 32768, 8192, True)
    larger = KvPool(tuple(groups), 5e5, kv_bytes + more, 32768, 8192, True)
    assert pool.blocks * pool.block_bytes <= kv_bytes
    assert larger.tokens >= pool.tokens
    assert larger.requests_at(tokens) >= pool.requests_at(tokens)
    assert pool.fits(tokens) == (pool.request_bytes(tokens) <= pool.blocks * pool.block_bytes)
    if pool.fits(tokens):
        assert pool.requests_at(tokens) >= 1
        assert larger.fits(tokens)
