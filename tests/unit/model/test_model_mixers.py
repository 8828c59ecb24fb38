"""What attention and linear attention store, read and compute on a rank, by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayserve_par.model.component import Component
from rayserve_par.model.matrix import Split
from rayserve_par.model.mixers.attention import GqaAttention, MlaAttention, SparseIndex
from rayserve_par.model.mixers.gated_delta_net import GatedDeltaNet
from rayserve_par.model.mixers.mixer import Mixer, kv_bytes_per_token_per_rank

LLAMA = GqaAttention(32, 8, 128)
DEEPSEEK = MlaAttention(128, 1536, 512, 128, 64, 128)
V32 = MlaAttention(128, 1536, 512, 128, 64, 128, index=SparseIndex(64, 128, 2048))
SHARED = MlaAttention(128, 1536, 512, 128, 64, 128, SparseIndex(64, 128, 2048, is_shared=True))
# Qwen3-Next-80B-A3B
DELTA = GatedDeltaNet(16, 32, 128, 128, 4, state_bits=32.0, is_fused=True)


@pytest.mark.parametrize(
    ("mixer", "tp", "kv_bits", "kv_bytes"),
    [
        (LLAMA, 1, 16, 8 * 256 * 2),
        (LLAMA, 4, 16, 2 * 256 * 2),
        (LLAMA, 16, 16, 256 * 2),
        (LLAMA, 8, 8, 256),
        (GqaAttention(64, 4, 192, v_head_dim=128), 2, 16, 2 * 320 * 2),
        (DEEPSEEK, 1, 16, 1152),
        (DEEPSEEK, 8, 16, 1152),
        (DEEPSEEK, 8, 8, 576),
        # The index keeps 128 FP8 values and one float32 scale, whatever the KV cache's dtype.
        (V32, 8, 16, 1152 + 132),
        (V32, 8, 8, 576 + 132),
        (SHARED, 8, 16, 1152),
        (DELTA, 1, 16, 0),
    ],
)
def test_kv_bytes(mixer: Mixer, tp: int, kv_bits: float, kv_bytes: float) -> None:
    assert kv_bytes_per_token_per_rank(mixer, tp, kv_bits) == kv_bytes


@pytest.mark.parametrize(
    ("mixer", "context", "attended"),
    [
        (LLAMA, 5000, 5000),
        (GqaAttention(8, 8, 64, window_tokens=128), 5000, 128),
        (GqaAttention(8, 8, 64, window_tokens=128), 100, 100),
        (DEEPSEEK, 5000, 5000),
        (V32, 5000, 2048),
        (SHARED, 5000, 2048),
        (V32, 1000, 1000),
        (DELTA, 5000, 0),
    ],
)
def test_attended_tokens(mixer: Mixer, context: float, attended: float) -> None:
    assert mixer.attended_tokens(context) == attended


@pytest.mark.parametrize(
    ("mixer", "tp", "decode", "prefill", "index"),
    [
        (LLAMA, 1, 32 * 512, 32 * 512, 0),
        (LLAMA, 4, 8 * 512, 8 * 512, 0),
        (DEEPSEEK, 1, 128 * 2 * (2 * 512 + 64), 128 * 2 * (192 + 128), 0),
        (V32, 8, 16 * 2 * (2 * 512 + 64), 16 * 2 * (192 + 128), 2 * 64 * 128),
        (SHARED, 8, 16 * 2 * (2 * 512 + 64), 16 * 2 * (192 + 128), 0),
        (DELTA, 2, 0, 0, 0),
    ],
)
def test_flops(mixer: Mixer, tp: int, decode: float, prefill: float, index: float) -> None:
    assert mixer.flops_per_pair_per_rank(tp, decode=True) == decode
    assert mixer.flops_per_pair_per_rank(tp, decode=False) == prefill
    assert mixer.index_flops_per_pair_per_rank(tp) == index


def test_state_of_a_gated_delta_net() -> None:
    # 8192 channels x 3 tokens at 16 bits, 32 heads of 128 x 128 float32.
    whole = 8192 * 3 * 2 + 32 * 128 * 128 * 4
    assert DELTA.state_bytes_per_request_per_rank(1) == whole
    assert DELTA.state_bytes_per_request_per_rank(4) == whole / 4
    assert DELTA.flops_per_token_per_rank(2) == 16 * 8 * 128 * 128
    assert LLAMA.state_bytes_per_request_per_rank(1) == 0


def parameters(mixer: Mixer, hidden: int) -> int:
    return sum(matrix.parameters for matrix in mixer.matrices(hidden))


@pytest.mark.parametrize(
    ("mixer", "count"),
    [
        (LLAMA, 64 * 4096 * 2 + 64 * 1024 * 2),
        (GqaAttention(32, 8, 128, output_gate=True), 64 * (3 * 4096 + 2 * 1024)),
        (GqaAttention(32, 8, 128, keys_are_values=True), 64 * (2 * 4096 + 1024)),
        (GqaAttention(32, 8, 128, qk_norm_whole=True), 64 * (2 * 4096 + 2 * 1024) + 5120),
        (GqaAttention(32, 8, 128, v_head_dim=64), 64 * (4096 + 1024 + 512 + 2048)),
    ],
)
def test_parameters_of_grouped_query_attention(mixer: Mixer, count: int) -> None:
    assert parameters(mixer, 64) == count


def test_a_sparse_index_adds_replicated_weights() -> None:
    added = {m.name for m in V32.matrices(7168)} - {m.name for m in DEEPSEEK.matrices(7168)}
    assert added == {f"self_attn.indexer.{n}" for n in ("wq_b", "wk", "weights_proj", "k_norm")}
    assert SHARED.matrices(7168) == DEEPSEEK.matrices(7168)
    assert {m.split for m in V32.matrices(7168) if m.name in added} == {Split.WHOLE}


def test_checkpoint_layouts_of_a_delta_net_hold_the_same() -> None:
    split = GatedDeltaNet(16, 32, 128, 128, 4)
    assert parameters(split, 2048) == parameters(DELTA, 2048)
    conv = next(m for m in split.matrices(2048) if m.name.endswith("conv1d"))
    assert conv.is_vector
    assert conv.component is Component.RECURRENT


@given(st.sampled_from([LLAMA, DEEPSEEK, V32, DELTA]), st.sampled_from([1, 2, 4, 8, 16]))
def test_ranks_together_hold_at_least_the_whole(mixer: Mixer, tp: int) -> None:
    whole = kv_bytes_per_token_per_rank(mixer, 1, 16) + mixer.state_bytes_per_request_per_rank(1)
    part = kv_bytes_per_token_per_rank(mixer, tp, 16) + mixer.state_bytes_per_request_per_rank(tp)
    assert whole / tp <= part <= whole
