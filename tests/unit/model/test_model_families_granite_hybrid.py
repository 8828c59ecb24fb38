"""Granite 4.0 hybrids against transformers 5.19's GraniteMoeHybridForCausalLM (meta device)."""

from typing import Any

import pytest

from rayserve_par.errors import RefusedError
from rayserve_par.model import model_spec_from_config

CONFIG: dict[str, Any] = {
    "model_type": "granitemoehybrid",
    "vocab_size": 1000,
    "hidden_size": 256,
    "intermediate_size": 64,
    "shared_intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "mamba_n_heads": 16,
    "mamba_d_head": 32,
    "mamba_n_groups": 1,
    "mamba_d_state": 32,
    "mamba_d_conv": 4,
    "mamba_expand": 2,
    "layer_types": ["mamba", "mamba", "attention", "mamba"],
}


@pytest.mark.parametrize(("experts", "count"), [(4, 3_113_296), (0, 2_322_768)])
def test_parameters(experts: int, count: int) -> None:
    spec = model_spec_from_config({**CONFIG, "num_local_experts": experts}, "m")
    assert spec.parameters == count
    assert spec.is_moe == bool(experts)


def test_cache_of_attention_and_state_of_mamba() -> None:
    """Conv (512 + 2 x 32) x 3 and 16 heads x 32 x 32, both in the model's 16 bits."""
    layers = model_spec_from_config(CONFIG, "m").layers
    mixers = [layer.mixer for layer in layers if layer.mixer]
    assert [mixer.kind for mixer in mixers] == ["mamba2", "mamba2", "gqa", "mamba2"]
    assert mixers[0].state_bytes_per_request_per_rank(1) == 576 * 3 * 2 + 16 * 32 * 32 * 2
    assert mixers[2].kv_values_per_token_per_rank(1) == 2 * 2 * 32


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer_types": None}, "found none"),
        ({"layer_types": ["mamba", "conv", "mamba", "mamba"]}, r"found \['conv'\]"),
        ({"mamba_proj_bias": True}, "mamba_proj_bias is true"),
    ],
)
def test_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        model_spec_from_config({**CONFIG, **changes}, "m")
