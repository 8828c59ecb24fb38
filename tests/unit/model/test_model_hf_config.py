"""Reading config.json: every known type, and what is refused."""

from typing import Any

import pytest

from rayserve_par.errors import RefusedError
from rayserve_par.model.component import Component
from rayserve_par.model.families import known_model_types
from rayserve_par.model.hf_config import model_spec_from_config
from rayserve_par.model.mixers.attention import GqaAttention, MlaAttention
from rayserve_par.model.spec import ModelSpec

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


def read(**changes: Any) -> ModelSpec:
    config = {**DENSE, **changes}
    return model_spec_from_config({k: v for k, v in config.items() if v is not None}, "m")


def hand_counted(attention: int, mlp: int, norms: int = 512) -> int:
    """Four alike layers, embedding, head and final norm of the dense config."""
    return 4 * (attention + mlp + norms) + 2 * 1000 * 256 + 256


def dense_layers(spec: ModelSpec) -> tuple[int, ...]:
    return tuple(n for n, layer in enumerate(spec.layers) if layer.moe is None)


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
        ({"model_type": "qwen3", "head_dim": 32}, hand_counted(QKVO, MLP, 512 + 2 * 32)),
        # Qwen3Config fills in a head dimension of 128.
        ({"model_type": "qwen3"}, hand_counted(4 * QKVO, MLP, 512 + 2 * 128)),
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
    (mla,) = spec.mixers
    assert isinstance(mla, MlaAttention)
    attention = 64 * 256 + 8 * 24 * 64 + 40 * 256 + 8 * 32 * 32 + 256 * 128
    norms = 2 * 256 + 64 + 32
    moe = 16 * 3 * 128 * 256 + 3 * 256 * 256 + 16 * 256 + 16
    dense = 3 * 512 * 256
    assert spec.parameters == 4 * (attention + norms) + dense + 3 * moe + 2 * 256000 + 256
    assert dense_layers(spec) == (0,)
    assert spec.active_parameters == spec.parameters - 3 * 12 * 3 * 128 * 256
    assert spec.kv_bytes_per_token == 4 * (32 + 8) * 2


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
    assert dense_layers(read(**moe, decoder_sparse_step=2)) == (0, 2)
    assert dense_layers(read(**moe, mlp_only_layers=[3])) == (3,)
    assert read(**moe, mlp_only_layers=[0, 1, 2, 3]).moe is None


def test_gqa_fields_and_sliding_window() -> None:
    spec = read(
        model_type="gpt_oss",
        num_local_experts=4,
        num_experts_per_tok=2,
        sliding_window=128,
        layer_types=["sliding_attention", "full_attention"] * 2,
    )
    sliding, full = spec.mixers
    assert isinstance(sliding, GqaAttention)
    assert sliding.sinks
    assert [layer.mixer for layer in spec.layers] == [sliding, full] * 2
    assert (sliding.window_tokens, full.window_tokens) == (128, None)
    assert windows_of(read(sliding_window=128)) == [128] * 4
    assert windows_of(read(sliding_window=128, use_sliding_window=False)) == [None] * 4


def windows_of(spec: ModelSpec) -> list[int | None]:
    return [layer.mixer.window_tokens for layer in spec.layers if layer.mixer]


@pytest.mark.parametrize(
    ("changes", "windows"),
    [
        ({"model_type": "gemma2"}, [8, None, 8, None]),
        ({"model_type": "gemma3_text", "sliding_window_pattern": 2}, [8, None, 8, None]),
        ({"model_type": "gemma3_text"}, [8, 8, 8, 8]),
        ({"model_type": "cohere2"}, [9, 9, 9, None]),
        ({"model_type": "exaone4", "sliding_window_pattern": "LG"}, [8, None, 8, None]),
        ({"model_type": "exaone4"}, [8, 8, 8, None]),
        ({"layer_types": ["full_attention"] * 3 + ["sliding_attention"]}, [None] * 3 + [8]),
    ],
)
def test_windows_by_family(changes: dict[str, Any], windows: list[int | None]) -> None:
    assert windows_of(read(sliding_window=8, **changes)) == windows


def test_equal_layers_are_one_object() -> None:
    (counted,) = read().layer_counts
    assert counted[1] == 4
    assert [n for _, n in read(**MLA).layer_counts] == [1, 3]


def test_mtp_layers_stay_out_of_the_totals() -> None:
    plain, with_mtp = read(**MLA), read(**MLA, num_nextn_predict_layers=2)
    assert with_mtp.parameters == plain.parameters
    assert len(with_mtp.mtp_layers) == 2
    assert with_mtp.mtp_layers[0].moe == plain.layers[3].moe


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
    assert (spec.weight_format.name, spec.bits_per_parameter) == (name, bits)


FP8: dict[str, Any] = {"quant_method": "fp8"}


def test_text_config_takes_the_outer_quantisation_and_tying() -> None:
    outer = {"model_type": "wrapper", "text_config": DENSE}
    assert model_spec_from_config(outer, "m").weight_format.name == "bf16"
    changed = {**outer, "quantization_config": FP8, "tie_word_embeddings": True}
    spec = model_spec_from_config(changed, "m")
    formats = {m.component: m.format.name for _, m in spec.matrices() if not m.is_vector}
    assert formats == {
        Component.ATTENTION: "fp8",
        Component.DENSE_MLP: "fp8",
        Component.EMBEDDING: "bf16",
    }
    assert spec.tied_embeddings


def test_a_quantisation_from_beside_the_config_counts() -> None:
    spec = model_spec_from_config(DENSE, "m", quantization=FP8)
    assert spec.weight_format.name == "fp8"


def test_layers_that_are_quantised_differently_are_different_layers() -> None:
    kept = {**FP8, "modules_to_not_convert": ["model.layers.1.mlp"]}
    spec = model_spec_from_config({**DENSE, "quantization_config": kept}, "m")
    assert [count for _, count in spec.layer_counts] == [3, 1]
    assert spec.layers[1].matrices != spec.layers[0].matrices


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "mamba9"}, "model type 'mamba9' is not known. Known: "),
        ({"model_type": None}, "model type None is not known"),
        ({"hidden_size": None}, "no hidden_size"),
        ({"vocab_size": "1000"}, "vocab_size is '1000'; it must be a whole number"),
        ({"num_hidden_layers": 0}, "number of layers is 0"),
        ({"num_key_value_heads": 3}, "8 attention heads are not a multiple of 3 KV heads"),
        ({"num_attention_heads": 7, "num_key_value_heads": 7}, "256 is not divisible by 7"),
        ({"model_type": "mixtral"}, "no num_local_experts"),
    ],
)
def test_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        read(**changes)


def test_an_unknown_vision_tower_is_refused_rather_than_left_out() -> None:
    config = {"model_type": "wrapper", "text_config": DENSE, "vision_config": {"depth": 2}}
    with pytest.raises(RefusedError, match="vision tower"):
        model_spec_from_config(config, "m")


def test_an_unknown_type_inside_a_wrapper_is_named() -> None:
    config = {"model_type": "wrapper", "text_config": {**DENSE, "model_type": "new9"}}
    with pytest.raises(RefusedError, match=r"'wrapper' \(with 'new9' inside\) is not known"):
        model_spec_from_config(config, "m")


def test_known_types() -> None:
    wanted = {"llama", "mistral", "qwen2", "qwen3", "qwen3_moe", "mixtral", "gpt_oss"}
    assert wanted | {"deepseek_v2", "deepseek_v3"} <= set(known_model_types())
