"""A model given by facts instead of a config."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayserve_par.errors import RefusedError
from rayserve_par.model.component import Component
from rayserve_par.model.manual import manual_spec
from rayserve_par.model.mixers.mixer import kv_bytes_per_token_per_rank

GIB = 2**30
DENSE_70B: dict[str, Any] = {"weights_gib": 131.4, "layers": 80, "hidden_size": 8192}
HEADS: dict[str, Any] = {"kv_heads": 8, "head_dim": 128, "num_heads": 64}


def test_a_dense_model() -> None:
    spec = manual_spec("m", **DENSE_70B, **HEADS)
    assert spec.weight_bytes / GIB == pytest.approx(131.4, rel=1e-3)
    assert spec.parameters / 1e9 == pytest.approx(70.55, rel=1e-3)
    assert spec.active_parameters == spec.parameters
    assert spec.kv_bytes_per_token == 80 * 2 * 8 * 128 * 2
    assert (spec.num_layers, spec.num_attention_heads, spec.is_moe) == (80, 64, False)


def test_kv_given_in_bytes_is_not_cut_by_tp() -> None:
    spec = manual_spec("m", **DENSE_70B, kv_bytes_per_token_per_layer=1152)
    (mixer,) = spec.mixers
    assert kv_bytes_per_token_per_rank(mixer, 8, 16) == 1152
    halved = manual_spec("m", **DENSE_70B, kv_bytes_per_token_per_layer=576, kv_cache_bits=8)
    assert halved.kv_bytes_per_token == 80 * 576


@given(
    weights_gib=st.floats(100, 2000),
    active=st.floats(0.02, 0.8),
    bits=st.sampled_from([4.25, 8.0, 16.0]),
)
def test_the_active_share_and_the_bytes_are_as_given(
    weights_gib: float, active: float, bits: float
) -> None:
    spec = manual_spec(
        "m",
        weights_gib=weights_gib,
        layers=60,
        hidden_size=4096,
        active_fraction=active,
        bits=bits,
        **HEADS,
    )
    assert spec.weight_bytes / GIB == pytest.approx(weights_gib, rel=1e-3)
    embedding = spec.parameters_by_component[Component.EMBEDDING]
    share = (spec.active_parameters - embedding) / (spec.parameters - embedding)
    assert active - 1e-3 <= share <= active + 0.05
    assert spec.moe is not None
    assert spec.moe.num_experts >= 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights_gib": 0}, "weights_gib is 0"),
        ({"layers": -1}, "layers is -1"),
        ({"active_fraction": 1.5}, "active fraction of 1.5"),
        ({"kv_heads": None}, "KV cache is not known"),
        ({"head_dim": 0}, "head_dim is 0"),
        ({"kv_bytes_per_token_per_layer": -1}, "kv_bytes_per_token_per_layer is -1"),
        ({"weights_gib": float("inf")}, "weights_gib is inf"),
        ({"weights_gib": 1e308}, "parameters is inf"),
        ({"bits": float("inf")}, "bits is inf"),
        ({"kv_bytes_per_token_per_layer": float("inf")}, "kv_bytes_per_token_per_layer is inf"),
        ({"kv_bytes_per_token_per_layer": 1e308}, "kv_values_per_token_per_layer is inf"),
        ({"weights_gib": 1}, "leave -?[0-9]+ parameters for each of 80 layers"),
    ],
)
def test_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        manual_spec("m", **{**DENSE_70B, **HEADS, **changes})
