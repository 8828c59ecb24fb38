"""Towers of Gemma 3, Qwen2-VL, Qwen2.5-VL, GLM-4.1V, GLM-4.5V and InternVL.

Counts are parameters of transformers 5.19's modules on the meta device, tower and projector.
"""

from typing import Any

import pytest

from rayserve_par.errors import RefusedError
from rayserve_par.model import model_spec_from_config
from rayserve_par.model.vision import vision_matrices

TEXT: dict[str, Any] = {
    "vocab_size": 1000,
    "hidden_size": 256,
    "intermediate_size": 384,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
}
SIGLIP = {
    "hidden_size": 1152,
    "image_size": 896,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "patch_size": 14,
}
QWEN2 = {"depth": 32, "embed_dim": 1280, "mlp_ratio": 4, "hidden_size": 256}
QWEN2_5 = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "out_hidden_size": 256}
GLM = {
    "depth": 24,
    "hidden_size": 1536,
    "image_size": 336,
    "patch_size": 14,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "out_hidden_size": 4096,
    "intermediate_size": 13696,
}
INTERN = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "intermediate_size": 4096,
    "image_size": 448,
    "patch_size": 14,
    "qkv_bias": True,
    "norm_type": "layer_norm",
}


@pytest.mark.parametrize(
    ("model_type", "inner", "vision", "tower", "whole"),
    [
        ("gemma3", "gemma3_text", SIGLIP, 417_162_096, 418_338_032),
        ("qwen2_vl", "qwen2_vl_text", QWEN2, 658_716_416, 660_147_968),
        ("qwen2_5_vl", "qwen2_5_vl_text", QWEN2_5, 659_507_456, 660_939_008),
        ("glm4v", "glm4v_text", GLM, 892_498_432, 893_931_008),
    ],
)
def test_tower_and_whole_model(
    model_type: str, inner: str, vision: dict[str, Any], tower: int, whole: int
) -> None:
    extra = {"head_dim": 32, "sliding_window": 512} if inner == "gemma3_text" else {}
    text = {**TEXT, **extra, "model_type": inner}
    config = {"model_type": model_type, "text_config": text, "vision_config": vision}
    spec = model_spec_from_config(config, "m")
    assert sum(matrix.parameters for matrix in spec.vision) == tower
    assert spec.parameters == whole


def test_glm_4_5v() -> None:
    config = {"model_type": "glm4v_moe", "vision_config": {**GLM, "intermediate_size": 10944}}
    assert sum(m.parameters for m in vision_matrices(config, "m")) == 858_681_856


@pytest.mark.parametrize(("model_type", "vision"), [("qwen2_vl", QWEN2), ("qwen2_5_vl", QWEN2_5)])
def test_text_fields_beside_the_vision_config(model_type: str, vision: dict[str, Any]) -> None:
    flat = {"model_type": model_type, **TEXT, "vision_config": vision}
    nested = {"model_type": model_type, "text_config": TEXT, "vision_config": vision}
    specs = [model_spec_from_config(config, "m") for config in (flat, nested)]
    assert specs[0].parameters == specs[1].parameters
    assert specs[0].layers == specs[1].layers


def intern(**outer: Any) -> int:
    config = {"model_type": "internvl_chat", "llm_config": {"hidden_size": 256}, **outer}
    return sum(m.parameters for m in vision_matrices({"vision_config": INTERN, **config}, "m"))


def test_internvl() -> None:
    assert intern() == 305_135_104
    without_bias = {**INTERN, "qkv_bias": False}
    assert intern() - intern(vision_config=without_bias) == 24 * 3 * 1024


def test_layers_after_the_selected_one_are_not_loaded() -> None:
    block = 4 * (1024 * 1024 + 1024) + 2 * 4096 * 1024 + 4096 + 1024 + 6 * 1024
    assert intern() - intern(select_layer=-4) == 3 * block
    with pytest.raises(RefusedError, match="is 24; it must be a whole number from -24 to 23"):
        intern(select_layer=24)
