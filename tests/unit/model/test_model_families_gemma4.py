"""Gemma 4: heads and windows by layer, experts beside the MLP, KV shared between layers."""

from typing import Any

import pytest
from shared_configs import parameters, published_config, skeleton

from rayserve_par.errors import RefusedError
from rayserve_par.model.families.gemma4 import read
from rayserve_par.model.ffn import DenseMlp, MoeMlp
from rayserve_par.model.matrix import Split

# layers, local, global, parameters of all layers. The last counted from transformers' own modules
# on the meta device (Gemma4ForCausalLM), which has no layer_scalar among its parameters.
PUBLISHED = [
    ("google--gemma-4-26B-A4B", 30, 25, 5, 25_233_141_760 - 262_144 * 2816 - 2816 + 30),
    ("nvidia--Gemma-4-31B-IT-NVFP4", 60, 50, 10, 30_697_345_280 - 262_144 * 5376 - 5376 + 60),
]


@pytest.mark.parametrize(("name", "layers", "local", "everywhere", "count"), PUBLISHED)
def test_published(name: str, layers: int, local: int, everywhere: int, count: int) -> None:
    config = published_config(name)
    found = skeleton(config)
    windows = [layer.mixer.window_tokens for layer in found.layers if layer.mixer]
    assert len(found.layers) == layers
    assert windows.count(1024) == local
    assert windows.count(None) == everywhere
    assert parameters(found, config["text_config"]["hidden_size"]) == count


@pytest.mark.parametrize(("tp", "local", "everywhere"), [(1, 4096, 2048), (4, 1024, 1024)])
def test_kv_of_local_and_global_layers(tp: int, local: int, everywhere: int) -> None:
    """8 heads of 256, and 2 heads of 512 that TP4 repeats; keys and values both."""
    layers = skeleton(published_config("google--gemma-4-26B-A4B")).layers
    first, sixth = layers[0].mixer, layers[5].mixer
    assert first is not None
    assert sixth is not None
    assert first.kv_values_per_token_per_rank(tp) == local
    assert sixth.kv_values_per_token_per_rank(tp) == everywhere
    assert first.attended_tokens(100_000) == 1024
    assert sixth.attended_tokens(100_000) == 100_000


def test_experts_stand_beside_a_dense_mlp() -> None:
    ffn = skeleton(published_config("google--gemma-4-26B-A4B")).layers[0].ffn
    assert isinstance(ffn, MoeMlp)
    assert (ffn.num_experts, ffn.experts_per_token) == (128, 8)
    assert (ffn.expert_intermediate_size, ffn.dense_intermediate_size) == (704, 2112)


def small(**changes: Any) -> dict[str, Any]:
    """Gemma 4 E2B (google/gemma-4-E2B, config.json)."""
    config = {
        "hidden_size": 1536,
        "num_hidden_layers": 35,
        "num_kv_shared_layers": 20,
        "num_attention_heads": 8,
        "num_key_value_heads": 1,
        "head_dim": 256,
        "global_head_dim": 512,
        "intermediate_size": 6144,
        "use_double_wide_mlp": True,
        "hidden_size_per_layer_input": 256,
        "vocab_size": 262_144,
        "vocab_size_per_layer_input": 262_144,
        "sliding_window": 512,
        "layer_types": (["sliding_attention"] * 4 + ["full_attention"]) * 7,
    }
    return config | changes


def test_last_layers_of_a_small_model_read_the_kv_of_earlier_ones() -> None:
    layers = read(small(), "E2B").layers
    kv = [layer.mixer.kv_values_per_token_per_rank(1) for layer in layers if layer.mixer]
    assert kv == [512, 512, 512, 512, 1024] * 3 + [0] * 20
    sizes = [layer.ffn.intermediate_size for layer in layers if isinstance(layer.ffn, DenseMlp)]
    assert sizes == [6144] * 15 + [12_288] * 20
    shared = layers[-1].mixer
    assert shared is not None
    assert {m.split for m in shared.matrices(1536)} == {Split.COLUMNS, Split.ROWS, Split.WHOLE}
    assert shared.attended_tokens(9000) == 9000
    assert shared.flops_per_pair_per_rank(2, decode=True) == 4 * 2 * 1024


def test_every_layer_has_its_share_of_the_second_embedding() -> None:
    """Gemma4ForCausalLM of transformers has 4,628,569,344 on the meta device: without the layers'
    scalars (35) and the norms of keys that are not there (16 x 256 + 4 x 512), with the one norm of
    the second embedding (256)."""
    counted = parameters(read(small(), "E2B"), 1536) + 262_144 * 1536 + 1536
    assert counted == 4_628_569_344 + 35 + 16 * 256 + 4 * 512 - 256


def test_a_config_without_layer_types_is_refused() -> None:
    with pytest.raises(RefusedError, match="layer_types"):
        read(small(layer_types=None), "E2B")
