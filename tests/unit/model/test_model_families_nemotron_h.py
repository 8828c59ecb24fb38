"""Nemotron-H: order of layers, Mamba-2's state, MLPs and experts of two matrices."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shared_configs import mixer_kinds, parameters, published_config, skeleton

from rayserve_par.errors import RefusedError
from rayserve_par.model.families.nemotron_h import read
from rayserve_par.model.ffn import DenseMlp, MoeMlp
from rayserve_par.model.matrix import Split
from rayserve_par.model.mixers.mamba2 import Mamba2

SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 128,
    "mamba_num_heads": 8,
    "mamba_head_dim": 16,
    "ssm_state_size": 32,
    "n_groups": 2,
    "conv_kernel": 4,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
    "n_shared_experts": 1,
    "moe_shared_expert_intermediate_size": 48,
    "hybrid_override_pattern": "ME*-",
}

# Mamba, attention, experts, MLPs; parameters of the whole model. The first from the hub's
# safetensors metadata, the others from transformers' own modules on the meta device, which have no
# e_score_correction_bias among their parameters (experts x expert layers are added here).
PUBLISHED = [
    ("NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", (23, 6, 23, 0), 31_577_940_288),
    ("NVIDIA-Nemotron-3-Super-120B-A12B-FP8", (40, 8, 40, 0), 120_668_687_360 + 40 * 512),
    ("NVIDIA-Nemotron-3-Ultra-550B-A55B-BF16", (48, 12, 48, 0), 549_308_968_960 + 48 * 512),
    ("Nemotron-H-56B-Base-8K", (54, 10, 0, 54), 56_324_350_464),
]


@pytest.mark.parametrize(("name", "counts", "count"), PUBLISHED)
def test_published(name: str, counts: tuple[int, ...], count: int) -> None:
    config = published_config(f"nvidia--{name}")
    found, hidden = skeleton(config), config["hidden_size"]
    kinds = mixer_kinds(found)
    ffns = [type(layer.ffn) for layer in found.layers]
    seen = (kinds.count("mamba2"), kinds.count("gqa"), ffns.count(MoeMlp), ffns.count(DenseMlp))
    assert seen == counts
    ends = 2 * config["vocab_size"] * hidden + hidden
    assert parameters(found, hidden) + ends == count


def test_state_of_nano_is_as_vllm_allocates_it() -> None:
    """mamba2_state_shape: conv (3, (4096 + 2 x 8 x 128) / tp), state (64 / tp, 64, 128) in fp32."""
    mixer = (
        skeleton(published_config("nvidia--NVIDIA-Nemotron-3-Nano-30B-A3B-BF16")).layers[0].mixer
    )
    assert mixer is not None
    assert mixer.state_bytes_per_request_per_rank(1) == 3 * 6144 * 2 + 64 * 64 * 128 * 4
    assert mixer.state_bytes_per_request_per_rank(4) == 3 * 1536 * 2 + 16 * 64 * 128 * 4


def test_one_group_is_repeated_on_every_rank() -> None:
    mixer = Mamba2(num_heads=8, head_dim=16, state_size=32, num_groups=1, conv_kernel=4)
    assert mixer.state_bytes_per_request_per_rank(4) == 3 * (32 + 64) * 2 + 2 * 16 * 32 * 4
    groups = [m for m in mixer.matrices(64) if m.split is Split.KV_HEADS]
    assert {m.out_features // m.head_features for m in groups} == {1}


def test_pattern_and_words_mean_the_same() -> None:
    words = ["mamba", "moe", "attention", "mlp"]
    by_words = read({**SMALL, "hybrid_override_pattern": None, "layers_block_type": words}, "words")
    assert by_words.layers == read(SMALL, "pattern").layers


def test_mlps_and_experts_have_no_gate() -> None:
    layers = read(SMALL, "a model").layers
    assert not any("gate_proj" in m.name for layer in layers for m in layer.matrices(64))
    assert isinstance(layers[1].ffn, MoeMlp)
    assert layers[1].ffn.shared_intermediate_size == 48


def test_latent_experts_work_on_a_projection() -> None:
    """Nemotron-3 Super: 512 experts of 2 x 1024 x 2688."""
    layers = skeleton(published_config("nvidia--NVIDIA-Nemotron-3-Super-120B-A12B-FP8")).layers
    experts = next(layer.ffn for layer in layers if layer.ffn)
    routed = [m for m in experts.matrices(4096) if ".experts." in m.name]
    assert sum(m.parameters for m in routed) == 512 * 2 * 1024 * 2688


def test_mlp_sizes_may_differ_by_layer() -> None:
    found = read(
        {**SMALL, "hybrid_override_pattern": "-M-", "intermediate_size": [32, 96]}, "sizes"
    )
    sizes = [
        layer.ffn.intermediate_size for layer in found.layers if isinstance(layer.ffn, DenseMlp)
    ]
    assert sizes == [32, 96]


def test_mtp_layers_follow_their_own_pattern() -> None:
    config = {**SMALL, "num_nextn_predict_layers": 1, "mtp_hybrid_override_pattern": "*E"}
    attention, experts = read(config, "a model").mtp_layers
    joined = [m for m in attention.matrices(64) if m.name == "eh_proj"]
    assert [m.parameters for m in joined] == [2 * 64 * 64]
    assert isinstance(experts.ffn, MoeMlp)
    assert experts.mixer is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hybrid_override_pattern": None}, "hybrid_override_pattern or layers_block_type"),
        ({"hybrid_override_pattern": "MQ"}, r"unknown kinds of layers \['Q'\]"),
        ({"mamba_ssm_cache_dtype": "int8"}, "mamba_ssm_cache_dtype is 'int8'"),
        ({"ssm_state_size": None}, "no ssm_state_size"),
    ],
)
def test_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        read({**SMALL, **changes}, "a model")


@given(
    heads=st.sampled_from([8, 16, 64]),
    groups=st.sampled_from([1, 2, 8]),
    tp=st.sampled_from([1, 2, 4, 8]),
)
def test_ranks_together_hold_at_least_the_whole_state(heads: int, groups: int, tp: int) -> None:
    mixer = Mamba2(num_heads=heads, head_dim=64, state_size=128, num_groups=groups, conv_kernel=4)
    whole = mixer.state_bytes_per_request_per_rank(1)
    on_a_rank = mixer.state_bytes_per_request_per_rank(tp)
    assert on_a_rank <= whole <= tp * on_a_rank
    assert tp * mixer.flops_per_token_per_rank(tp) == mixer.flops_per_token_per_rank(1)
