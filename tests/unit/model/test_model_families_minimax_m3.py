"""MiniMax M3: sparse and dense layers, the index, what a decode step reads."""

from dataclasses import replace
from typing import Any

import pytest
from shared_configs import mixer_kinds, named, parameters, published_config, skeleton

from rayserve_par.errors import RefusedError
from rayserve_par.model.families.minimax_m3 import READERS
from rayserve_par.model.ffn import DenseMlp, MoeMlp
from rayserve_par.model.matrix import Split

CONFIGS = ["MiniMaxAI--MiniMax-M3", "nvidia--MiniMax-M3-NVFP4"]


@pytest.mark.parametrize("name", CONFIGS)
def test_published(name: str) -> None:
    """427,040,132,864 in MiniMaxM3SparseForConditionalGeneration of transformers on the meta device
    (~428B on https://huggingface.co/MiniMaxAI/MiniMax-M3), 865,567,232 of them the vision tower;
    router biases (57 x 128) are no parameters there."""
    config = published_config(name)
    found = skeleton(config)
    counted = parameters(found, 6144) + 2 * 200_064 * 6144 + 6144
    assert counted == 427_040_132_864 - 865_567_232 + 57 * 128
    assert mixer_kinds(found) == ["gqa"] * 3 + ["block_sparse_gqa"] * 57
    assert [type(layer.ffn) for layer in found.layers] == [DenseMlp] * 3 + [MoeMlp] * 57


@pytest.mark.parametrize(
    ("tp", "kv", "index_flops"), [(1, 1024, 1024), (4, 256, 256), (8, 256, 256)]
)
def test_kv_and_index_per_rank(tp: int, kv: int, index_flops: int) -> None:
    """4 KV heads of 128, repeated beyond TP4; one bf16 index key of 128 values on every rank."""
    mixer = skeleton(published_config(CONFIGS[0])).layers[-1].mixer
    assert mixer is not None
    assert mixer.kv_values_per_token_per_rank(tp) == kv
    assert mixer.index_bytes_per_token_per_rank(tp) == 256
    assert mixer.index_flops_per_pair_per_rank(tp) == index_flops
    assert mixer.flops_per_pair_per_rank(tp, decode=True) == 64 / tp * 4 * 128


@pytest.mark.parametrize(("context", "attended"), [(1000, 1000), (2048, 2048), (1_000_000, 2048)])
def test_a_decode_step_reads_sixteen_blocks(context: int, attended: int) -> None:
    mixer = skeleton(published_config(CONFIGS[0])).layers[-1].mixer
    assert mixer is not None
    assert mixer.attended_tokens(context) == attended


def test_index_queries_are_repeated_as_kv_heads_are() -> None:
    layer = skeleton(published_config(CONFIGS[0])).layers[-1]
    queries = named(layer, "self_attn.index_q_proj", 6144)
    assert (queries.out_features, queries.split, queries.head_features) == (
        512,
        Split.KV_HEADS,
        128,
    )
    assert named(layer, "self_attn.index_k_proj", 6144).split is Split.WHOLE


def test_without_a_sparse_config_all_layers_are_dense_attention() -> None:
    config = {**published_config(CONFIGS[0]), "sparse_attention_config": None}
    assert set(mixer_kinds(skeleton(config))) == {"gqa"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"moe_layer_freq": [0, 1]}, "moe_layer_freq has 2 entries for 60 layers"),
        ({"dense_intermediate_size": None, "intermediate_size": None}, "intermediate_size"),
    ],
)
def test_refused(changes: dict[str, Any], message: str) -> None:
    config = {**published_config(CONFIGS[0]), **changes}
    with pytest.raises(RefusedError, match=message):
        READERS["minimax_m3"](config, "a model")


def test_wrapped_checkpoints_keep_their_layers_elsewhere() -> None:
    plain, wrapped = (skeleton(published_config(name)) for name in CONFIGS)
    assert plain.layer_prefix == "model.layers"
    assert wrapped.layer_prefix == "language_model.model.layers"
    assert replace(wrapped, layer_prefix=plain.layer_prefix, mtp_layers=plain.mtp_layers) == plain
