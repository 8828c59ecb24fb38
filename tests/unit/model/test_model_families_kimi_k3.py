"""Kimi Linear and K3: order of layers, the state of Kimi delta attention, gates, latent experts."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shared_configs import mixer_kinds, named, parameters, published_config, skeleton, total

from rayserve_par.errors import RefusedError
from rayserve_par.model.families.kimi_k3 import READERS
from rayserve_par.model.ffn import DenseMlp, MoeMlp
from rayserve_par.model.matrix import Split
from rayserve_par.model.mixers.kimi_delta import KimiDelta

# https://huggingface.co/moonshotai/Kimi-Linear-48B-A3B-Instruct/blob/main/config.json
FULL_ATTENTION = [4, 8, 12, 16, 20, 24, 27]
LINEAR_48B: dict[str, Any] = {
    "vocab_size": 163_840,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 27,
    "num_attention_heads": 32,
    "moe_intermediate_size": 1024,
    "num_experts": 256,
    "num_experts_per_token": 8,
    "num_shared_experts": 1,
    "first_k_dense_replace": 1,
    "kv_lora_rank": 512,
    "q_lora_rank": None,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "linear_attn_config": {
        "full_attn_layers": FULL_ATTENTION,
        "kda_layers": [n for n in range(1, 28) if n not in FULL_ATTENTION],
        "head_dim": 128,
        "num_heads": 32,
        "short_conv_kernel_size": 4,
    },
}


def test_kimi_linear_48b() -> None:
    """49,122,675,072 in KimiLinearForCausalLM of transformers on the meta device, where router
    biases are no parameters."""
    found = READERS["kimi_linear"](LINEAR_48B, "Kimi-Linear-48B-A3B")
    counted = parameters(found, 2304) + 2 * 163_840 * 2304 + 2304
    assert counted == 49_122_675_072 + 26 * 256
    assert [n for n, kind in enumerate(mixer_kinds(found), 1) if kind == "mla"] == FULL_ATTENTION


def test_kimi_k3() -> None:
    """2.78T parameters, 104.2B of them active without embedding (https://arxiv.org/abs/2607.24653,
    table 1); 69 linear layers."""
    config = published_config("moonshotai--Kimi-K3")
    found = skeleton(config)
    kinds = mixer_kinds(found)
    assert (kinds.count("kimi_delta"), kinds.count("mla")) == (69, 24)
    assert parameters(found, 7168) + 2 * 163_840 * 7168 == pytest.approx(2.78e12, rel=0.001)
    experts = found.layers[-1].ffn
    assert isinstance(experts, MoeMlp)
    idle = 92 * (896 - 16) * 3 * 3584 * 3072
    active = parameters(found, 7168) - idle + 163_840 * 7168
    assert active == pytest.approx(104.2e9, rel=0.001)
    assert isinstance(found.layers[0].ffn, DenseMlp)


@pytest.mark.parametrize(("tp", "heads"), [(1, 96), (8, 12)])
def test_state_of_k3_is_as_vllm_allocates_it(tp: int, heads: int) -> None:
    """kda_state_shape: conv (3, 3 x heads x 128) in bf16, state (heads, 128, 128) in float32."""
    mixer = skeleton(published_config("moonshotai--Kimi-K3")).layers[1].mixer
    assert mixer is not None
    expected = 3 * 3 * heads * 128 * 2 + heads * 128 * 128 * 4
    assert mixer.state_bytes_per_request_per_rank(tp) == expected
    assert mixer.kv_values_per_token_per_rank(tp) == 0


def test_mla_of_k3_keeps_576_values_and_has_a_gate() -> None:
    layer = skeleton(published_config("moonshotai--Kimi-K3")).layers[3]
    assert layer.mixer is not None
    assert layer.mixer.kv_values_per_token_per_rank(8) == 576
    gate = named(layer, "self_attn.g_proj", 7168)
    assert (gate.out_features, gate.split) == (96 * 128, Split.COLUMNS)


@pytest.mark.parametrize(("full_rank", "gate"), [(True, 256 * 64), (False, 16 * 64 + 256 * 16)])
def test_gate_of_full_or_low_rank(full_rank: bool, gate: int) -> None:
    mixer = KimiDelta(num_heads=16, head_dim=16, conv_kernel=4, full_rank_gate=full_rank)
    found = tuple(m for m in mixer.matrices(64) if ".g_" in m.name)
    assert total(found) == gate


@given(heads=st.sampled_from([8, 32, 96]), tp=st.sampled_from([1, 2, 4, 8]))
def test_ranks_share_the_state_without_rest(heads: int, tp: int) -> None:
    mixer = KimiDelta(num_heads=heads, head_dim=128, conv_kernel=4, full_rank_gate=True)
    whole = mixer.state_bytes_per_request_per_rank(1)
    assert tp * mixer.state_bytes_per_request_per_rank(tp) == whole
    assert tp * mixer.flops_per_token_per_rank(tp) == mixer.flops_per_token_per_rank(1)


def test_a_config_without_linear_attention_is_refused() -> None:
    with pytest.raises(RefusedError, match="linear_attn_config"):
        READERS["kimi_linear"]({**LINEAR_48B, "linear_attn_config": None}, "a model")
