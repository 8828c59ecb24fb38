"""DeepSeek-V4: what a layer stores and reads by its ratio, and its weights."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shared_configs import mixer_kinds, named, parameters, published_config, skeleton

from rayserve_par.errors import RefusedError
from rayserve_par.model.families.deepseek_v4 import read
from rayserve_par.model.matrix import Split
from rayserve_par.model.mixers.compressed_attention import CompressedAttention

FLASH = CompressedAttention(
    num_heads=64,
    head_dim=512,
    rope_dim=64,
    query_rank=1024,
    output_rank=1024,
    output_groups=8,
    window=128,
    ratio=4,
    index_heads=64,
    index_head_dim=128,
    index_topk=512,
)
PACKED = 448 + 2 * 64 + 8

# Whole models counted from DeepseekV4ForCausalLM of transformers on the meta device: 284 billion
# and 1.6 trillion, as https://huggingface.co/deepseek-ai/DeepSeek-V4-Flash says. Router biases
# (experts x layers) are no parameters there, and the hash layers have none; the mixing after the
# last layer is left out here.
PRO = 1_572_997_179_491


@pytest.mark.parametrize(
    "name", ["deepseek-ai--DeepSeek-V4-Pro", "sgl-project--DeepSeek-V4-Pro-FP8"]
)
def test_published(name: str) -> None:
    found = skeleton(published_config(name))
    counted = parameters(found, 7168) + 2 * 129_280 * 7168 + 7168
    last_mixing = 4 * 4 * 7168 + 4 + 1
    assert counted == PRO - last_mixing + 61 * 384
    assert mixer_kinds(found)[:4] == ["compressed_128"] * 2 + ["compressed_4", "compressed_128"]


def test_layers_of_flash() -> None:
    found = skeleton(published_config("deepseek-ai--DeepSeek-V4-Flash"))
    kinds = mixer_kinds(found)
    assert len(kinds) == 43
    assert kinds[:2] == ["window_mqa"] * 2
    assert (kinds.count("compressed_4"), kinds.count("compressed_128")) == (21, 20)
    assert [layer.mixer.kind for layer in found.mtp_layers if layer.mixer] == ["window_mqa"]


@pytest.mark.parametrize(
    ("ratio", "kv", "index", "state"),
    [
        (0, PACKED, 0, 0),
        (4, PACKED / 4, 132 / 4, 128 * PACKED + 8 * (2 * 2 * 512 + 2 * 2 * 128) * 4),
        (128, PACKED / 128, 0, 128 * PACKED + 128 * 2 * 512 * 4),
    ],
)
def test_stored(ratio: int, kv: float, index: float, state: float) -> None:
    """vLLM: 584 bytes a vector, 132 an index key; states of (8, 2048), (8, 512) and (128, 1024)."""
    mixer = replace(FLASH, ratio=ratio)
    assert mixer.kv_values_per_token_per_rank(8) == kv
    assert mixer.index_bytes_per_token_per_rank(8) == index
    assert mixer.state_bytes_per_request_per_rank(8) == state
    assert mixer.window_tokens == (None if ratio else 128)


@pytest.mark.parametrize(
    ("ratio", "context", "vectors"),
    [
        (0, 64, 64),
        (0, 10_000, 128),
        (4, 1000, 128 + 250),
        (4, 1_000_000, 128 + 512),
        (128, 1_000_000, 128 + 7812.5),
    ],
)
def test_read_by_a_decode_step(ratio: int, context: int, vectors: float) -> None:
    mixer = replace(FLASH, ratio=ratio)
    attended = mixer.attended_tokens(context)
    assert attended * mixer.kv_values_per_token_per_rank(1) == pytest.approx(vectors * PACKED)
    flops = attended * mixer.flops_per_pair_per_rank(2, decode=True)
    assert flops == pytest.approx(vectors * 32 * 4 * 512)


def test_only_ratio_four_has_an_index() -> None:
    names = {
        ratio: {m.name for m in replace(FLASH, ratio=ratio).matrices(4096)} for ratio in (4, 128)
    }
    assert "attn.indexer.wq_b" in names[4] - names[128]
    assert replace(FLASH, ratio=4).index_flops_per_pair_per_rank(8) == 64 * 2 * 128 / 4
    assert replace(FLASH, ratio=128).index_flops_per_pair_per_rank(8) == 0


def test_output_projection_is_cut_by_groups() -> None:
    layer = skeleton(published_config("deepseek-ai--DeepSeek-V4-Flash")).layers[0]
    first, second = named(layer, "attn.wo_a", 4096), named(layer, "attn.wo_b", 4096)
    assert (first.out_features, first.in_features, first.split) == (8192, 4096, Split.COLUMNS)
    assert (second.out_features, second.in_features, second.split) == (4096, 8192, Split.ROWS)


@given(ratio=st.sampled_from([0, 4, 128]), a=st.integers(0, 10**6), b=st.integers(0, 10**6))
def test_a_longer_context_never_reads_less(ratio: int, a: int, b: int) -> None:
    mixer = replace(FLASH, ratio=ratio)
    shorter, longer = sorted((a, b))
    assert mixer.attended_tokens(shorter) <= mixer.attended_tokens(longer)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vision_n_layers": 24}, "vision_n_layers = 24"),
        ({"compress_ratios": [0, 4]}, "2 entries for 43 layers"),
        ({"hc_mult": None}, "no hc_mult"),
    ],
)
def test_refused(changes: dict[str, Any], message: str) -> None:
    config = published_config("deepseek-ai--DeepSeek-V4-Flash")
    with pytest.raises(RefusedError, match=message):
        read({**config, **changes}, "a model")
