"""Reading config.json: every known type, and what is refused."""

from typing import Any

import pytest

from rayserve_par.errors import RefusedError
from rayserve_par.model.attention import GqaAttention, MlaAttention
from rayserve_par.model.hf_config import known_model_types, model_spec_from_config
from rayserve_par.model.precision import Component

DENSE: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "num_hidden_layers": 4,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 1000,
    "max_position_embeddings": 4096,
}
MLA = {
    "model_type": "deepseek_v3",
    "kv_lora_rank": 32,
    "q_lora_rank": 64,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 16,
    "n_routed_experts": 16,
    "n_shared_experts": 2,
    "num_experts_per_tok": 4,
    "moe_intermediate_size": 128,
    "first_k_dense_replace": 1,
    "moe_layer_freq": 1,
    "topk_method": "noaux_tc",
}


def read(**changes: Any) -> Any:
    config = {**DENSE, **changes}
    return model_spec_from_config({k: v for k, v in config.items() if v is not None}, "m")


def hand_counted(attention: int, mlp: int, norms: int = 512) -> int:
    """Four alike layers, embedding, head and final norm of the dense config."""
    return 4 * (attention + mlp + norms) + 2 * 1000 * 256 + 256


QKVO = 256 * 256 * 2 + 2 * 64 * 256
MLP = 3 * 512 * 256


@pytest.mark.parametrize(
    ("changes", "parameters"),
    [
        ({}, hand_counted(QKVO, MLP)),
        ({"model_type": "mistral"}, hand_counted(QKVO, MLP)),
        ({"num_key_value_heads": None}, hand_counted(4 * 256 * 256, MLP)),
        ({"tie_word_embeddings": True}, hand_counted(QKVO, MLP) - 1000 * 256),
        ({"model_type": "qwen2"}, hand_counted(QKVO + 256 + 2 * 64, MLP)),
        ({"model_type": "qwen3"}, hand_counted(QKVO, MLP, 512 + 2 * 32)),
        ({"attention_bias": True}, hand_counted(QKVO + 256 + 128 + 256, MLP)),
        ({"head_dim": 64}, hand_counted(2 * QKVO, MLP)),
        (
            {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2},
            hand_counted(QKVO, 4 * MLP + 4 * 256),
        ),
        (
            {
                "model_type": "qwen3_moe",
                "num_experts": 8,
                "num_experts_per_tok": 2,
                "moe_intermediate_size": 64,
            },
            hand_counted(QKVO, 8 * 3 * 64 * 256 + 8 * 256, 512 + 64),
        ),
        (
            {
                "model_type": "gpt_oss",
                "num_local_experts": 4,
                "num_experts_per_tok": 2,
            },
            hand_counted(
                QKVO + 256 + 128 + 256 + 8,
                4 * MLP + 4 * (2 * 512 + 256) + 4 * 256 + 4,
            ),
        ),
    ],
)
def test_parameters_by_hand(changes: dict[str, Any], parameters: int) -> None:
    assert read(**changes).parameters == parameters


def test_deepseek_by_hand() -> None:
    spec = read(**MLA)
    assert isinstance(spec.attention, MlaAttention)
    attention = 64 * 256 + 8 * 24 * 64 + 40 * 256 + 8 * 32 * 32 + 256 * 128
    norms = 2 * 256 + 64 + 32
    moe = 16 * 3 * 128 * 256 + 3 * 256 * 256 + 16 * 256 + 16
    dense = 3 * 512 * 256
    assert spec.parameters == 4 * (attention + norms) + dense + 3 * moe + 2 * 256000 + 256
    assert spec.moe is not None
    assert spec.moe.dense_layers == (0,)
    assert spec.active_parameters == spec.parameters - 3 * 12 * 3 * 128 * 256
    assert spec.kv_bytes_per_token() == 4 * (32 + 8) * 2


def test_deepseek_without_query_compression_has_one_query_matrix() -> None:
    compressed, plain = read(**MLA), read(**{**MLA, "q_lora_rank": None})
    queries = 8 * 24
    saved = 64 * 256 + queries * 64 + 64
    assert compressed.parameters - plain.parameters == 4 * (saved - queries * 256)


def test_qwen_sparse_step_and_dense_layers() -> None:
    moe = {
        "model_type": "qwen3_moe",
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 64,
    }
    assert read(**moe, decoder_sparse_step=2).moe.dense_layers == (0, 2)
    assert read(**moe, mlp_only_layers=[3]).moe.dense_layers == (3,)
    assert read(**moe, mlp_only_layers=[0, 1, 2, 3]).moe is None


def test_gqa_fields_and_sliding_window() -> None:
    spec = read(
        model_type="gpt_oss",
        num_local_experts=4,
        num_experts_per_tok=2,
        sliding_window=128,
        layer_types=["sliding_attention", "full_attention"] * 2,
    )
    assert isinstance(spec.attention, GqaAttention)
    assert spec.attention.sinks
    assert (spec.sliding_window_tokens, spec.sliding_layers) == (128, (0, 2))
    assert read(sliding_window=128).sliding_layers == (0, 1, 2, 3)
    assert read(sliding_window=128, use_sliding_window=False).sliding_window_tokens is None


@pytest.mark.parametrize(
    ("dtype", "torch_dtype", "name", "bits"),
    [
        (None, "bfloat16", "bf16", 16),
        (None, "float16", "fp16", 16),
        (None, "float32", "bf16", 16),  # vLLM's dtype "auto" loads it at 16 bits
        ("float32", "bfloat16", "fp32", 32),
        ("bfloat16", "float16", "bf16", 16),
    ],
)
def test_base_precision(dtype: str | None, torch_dtype: str, name: str, bits: int) -> None:
    spec = model_spec_from_config({**DENSE, "torch_dtype": torch_dtype}, "m", dtype=dtype)
    assert (spec.precision.name, spec.bits_per_parameter) == (name, bits)


def test_text_config_takes_the_outer_quantisation() -> None:
    outer = {"model_type": "wrapper", "text_config": DENSE}
    quant = {"quantization_config": {"quant_method": "fp8"}}
    assert model_spec_from_config(outer, "m").precision.name == "bf16"
    spec = model_spec_from_config({**outer, **quant}, "m")
    assert spec.precision.quantised == (Component.ATTENTION, Component.DENSE_MLP)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "mamba9"}, "model type 'mamba9' is not known. Known: deepseek_v2"),
        ({"model_type": None}, "model type None is not known"),
        ({"hidden_size": None}, "no hidden_size"),
        ({"vocab_size": "1000"}, "vocab_size is '1000'; it must be a whole number"),
        ({"num_hidden_layers": 0}, "num_layers is 0"),
        ({"num_key_value_heads": 3}, "8 attention heads are not a multiple of 3 KV heads"),
        ({"num_attention_heads": 7, "num_key_value_heads": 7}, "256 is not divisible by 7"),
        ({"model_type": "mixtral"}, "no num_local_experts"),
    ],
)
def test_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        read(**changes)


def test_a_vision_tower_is_refused_rather_than_left_out() -> None:
    config = {"model_type": "wrapper", "text_config": DENSE, "vision_config": {"depth": 2}}
    with pytest.raises(RefusedError, match="vision tower"):
        model_spec_from_config(config, "m")


def test_known_types() -> None:
    wanted = {"llama", "mistral", "qwen2", "qwen3", "qwen3_moe", "mixtral", "gpt_oss"}
    assert wanted | {"deepseek_v2", "deepseek_v3"} <= set(known_model_types())
