"""Llama 4: chunked and global layers, experts in every layer or every other."""

from typing import Any

import pytest
from shared_configs import parameters, published_config, skeleton

from rayserve_par.model.families.llama4 import read
from rayserve_par.model.ffn import DenseMlp, MoeMlp

SMALL = {
    "hidden_size": 64,
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "attention_chunk_size": 32,
    "intermediate_size": 24,
    "intermediate_size_mlp": 48,
    "num_local_experts": 4,
    "num_experts_per_tok": 1,
    "interleave_moe_layer_step": 2,
}


# Safetensors totals of the hub (108,641,793,536 and 401,583,781,376) less the vision tower that
# test_model_vision.py counts, embedding, head and last norm.
@pytest.mark.parametrize(
    ("name", "total", "moe_layers"),
    [
        ("meta-llama--Llama-4-Scout-17B-16E-Instruct", 108_641_793_536, 48),
        ("meta-llama--Llama-4-Maverick-17B-128E-Instruct", 401_583_781_376, 24),
    ],
)
def test_published(name: str, total: int, moe_layers: int) -> None:
    found = skeleton(published_config(name))
    outside = 871_932_416 + 2 * 202_048 * 5120 + 5120
    assert parameters(found, 5120) == total - outside
    assert sum(isinstance(layer.ffn, MoeMlp) for layer in found.layers) == moe_layers
    windows = [layer.mixer.window_tokens for layer in found.layers if layer.mixer]
    assert windows == [8192, 8192, 8192, None] * 12


@pytest.mark.parametrize(
    ("changes", "windows", "moe"),
    [
        ({}, "lllglllg", "-e-e-e-e"),
        ({"interleave_moe_layer_step": 1}, "lllglllg", "eeeeeeee"),
        ({"moe_layers": [0, 3]}, "lllglllg", "e--e----"),
        ({"no_rope_layers": [1, 0] * 4}, "lglglglg", "-e-e-e-e"),
        ({"no_rope_layers": []}, "lllglllg", "-e-e-e-e"),
        ({"attention_chunk_size": None}, "gggggggg", "-e-e-e-e"),
    ],
)
def test_layers(changes: dict[str, Any], windows: str, moe: str) -> None:
    layers = read({**SMALL, **changes}, "a model").layers
    assert "".join("l" if la.mixer and la.mixer.window_tokens else "g" for la in layers) == windows
    assert "".join("e" if isinstance(la.ffn, MoeMlp) else "-" for la in layers) == moe


def test_experts_and_dense_mlps_have_their_own_widths() -> None:
    dense, sparse = (layer.ffn for layer in read(SMALL, "a model").layers[:2])
    assert isinstance(dense, DenseMlp)
    assert isinstance(sparse, MoeMlp)
    assert dense.intermediate_size == 48
    assert (sparse.expert_intermediate_size, sparse.shared_intermediate_size) == (24, 24)
