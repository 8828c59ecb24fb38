"""Vision towers against published totals and against transformers' own modules.

The counts marked "meta" are parameters of the named class of transformers 5.19 on the meta device.
"""

from typing import Any

import pytest
from shared_configs import parameters, published_config, skeleton, total

from rayserve_par.errors import RefusedError
from rayserve_par.model.component import Component
from rayserve_par.model.matrix import Split
from rayserve_par.model.vision import vision_matrices

# Whole models in the hub's safetensors metadata (https://huggingface.co/Qwen/Qwen3-VL-2B-Instruct
# and so on; meta-llama/Llama-4-*): everything but the tower is counted by the text's reader.
WHOLE = [
    ("Qwen--Qwen3-VL-4B-Instruct", 4_437_815_808, 1),
    ("Qwen--Qwen3-VL-8B-Instruct", 8_767_123_696, 2),
    ("Qwen--Qwen3-VL-30B-A3B-Instruct", 31_070_754_032, 2),
    ("meta-llama--Llama-4-Scout-17B-16E-Instruct", 108_641_793_536, 2),
    ("meta-llama--Llama-4-Maverick-17B-128E-Instruct", 401_583_781_376, 2),
]

PIXTRAL: dict[str, Any] = {
    "model_type": "mistral3",
    "text_config": {"hidden_size": 5120},
    "vision_config": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "patch_size": 14,
    },
    "spatial_merge_size": 2,
}

PERCEPTION: dict[str, Any] = {
    "model_type": "step3p7",
    "projector_bias": False,
    "text_config": {"hidden_size": 4096},
    "vision_config": {
        "width": 1536,
        "layers": 47,
        "heads": 16,
        "image_size": 728,
        "patch_size": 14,
        "mlp_ratio": 8960 / 1536,
        "ls_init_value": 0.1,
        "use_ln_post": False,
        "use_cls_token": False,
    },
}


def tower(config: dict[str, Any]) -> int:
    return total(vision_matrices(config, "a model"))


@pytest.mark.parametrize(("name", "whole", "tables"), WHOLE)
def test_tower_completes_the_published_total(name: str, whole: int, tables: int) -> None:
    config = published_config(name)
    text = config["text_config"]
    inner = text if text["model_type"] != "llama4_text" else config
    hidden = text["hidden_size"]
    ends = tables * text["vocab_size"] * hidden + hidden
    assert parameters(skeleton(inner), hidden) + ends + tower(config) == whole


@pytest.mark.parametrize(
    ("name", "count"),
    [
        # Gemma4VisionModel (meta), its two buffers of 1152 and the projection.
        ("google--gemma-4-26B-A4B", 569_548_080 + 2 * 1152 + 1152 * 2816),
        ("nvidia--Gemma-4-31B-IT-NVFP4", 569_548_080 + 2 * 1152 + 1152 * 5376),
        # MiniMaxM3SparseForConditionalGeneration (meta) without its language model.
        ("nvidia--MiniMax-M3-NVFP4", 865_567_232),
    ],
)
def test_published_towers(name: str, count: int) -> None:
    assert tower(published_config(name)) == count


@pytest.mark.parametrize(
    ("config", "count"),
    [
        # Mistral3ForConditionalGeneration (meta): vision tower and projector.
        (PIXTRAL, 438_958_080),
        # Step3p7VisionModel (meta) and the projector of 4 x 1536 to 4096.
        (PERCEPTION, 1_955_848_960 + 4 * 1536 * 4096),
    ],
)
def test_towers_of_models_without_a_config_here(config: dict[str, Any], count: int) -> None:
    assert tower(config) == count


def test_audio_tower_of_a_small_gemma() -> None:
    """Gemma4AudioModel (meta): 304,824,608 parameters; and its projection of 1536 to 1536."""
    config = published_config("google--gemma-4-26B-A4B")
    audio = {
        "hidden_size": 1024,
        "num_hidden_layers": 12,
        "num_attention_heads": 8,
        "conv_kernel_size": 5,
        "output_proj_dims": 1536,
        "subsampling_conv_channels": [128, 32],
    }
    with_audio = {**config, "audio_config": audio}
    assert tower(with_audio) - tower(config) == 304_824_608 + 1536 * 2816


def test_moonvit_of_kimi_k2_5_and_k3() -> None:
    """K3 drops biases and halves its norms; both are "400M" towers with a projector."""
    k2, k3 = (published_config(f"moonshotai--{name}") for name in ("Kimi-K2.5", "Kimi-K3"))
    names = [{m.name for m in vision_matrices(c, "a model") if "_bias" in m.name} for c in (k2, k3)]
    assert len(names[0]) == 7
    assert names[1] == set()
    assert 0.4e9 < tower(k3) < tower(k2) < 0.48e9
    merged, block = 4 * 1024, 4 * 1536 * 1024 + 2 * 4096 * 1024 + 2 * 1024
    outside = 1024 * 588 + 64 * 64 * 1024 + 1024 + merged * merged + merged * 7168 + 7168
    assert tower(k3) == 27 * block + outside


def test_everything_is_vision_and_nothing_of_gemma_is_cut() -> None:
    qwen = vision_matrices(published_config("Qwen--Qwen3-VL-2B-Instruct"), "a model")
    gemma = vision_matrices(published_config("google--gemma-4-26B-A4B"), "a model")
    assert {m.component for m in (*qwen, *gemma)} == {Component.VISION}
    assert {m.split for m in gemma} == {Split.WHOLE}
    assert {m.split for m in qwen} == {Split.COLUMNS, Split.ROWS, Split.WHOLE}


def test_deepstack_layers_have_a_merger_each() -> None:
    config = published_config("Qwen--Qwen3-VL-2B-Instruct")
    vision = {**config["vision_config"], "deepstack_visual_indexes": []}
    merged = 4 * 1024
    merger = merged * merged + merged + merged * 2048 + 2048 + 2 * merged
    assert tower(config) - tower({**config, "vision_config": vision}) == 3 * merger


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "llama"},
        {"model_type": "llama4_text", "architectures": ["Llama4ForCausalLM"]},
        {"model_type": "step3p7", "architectures": ["Step3p7FlashForCausalLM"]},
    ],
)
def test_no_tower(config: dict[str, Any]) -> None:
    assert vision_matrices(config, "a model") == ()


def test_an_unknown_tower_is_refused_by_name() -> None:
    config = {"model_type": "molmo2", "vision_config": {"hidden_size": 64}}
    with pytest.raises(RefusedError, match=r"'molmo2' is not known.*qwen3_vl_moe"):
        vision_matrices(config, "a model")


def test_a_gemma_tower_with_grouped_heads_is_refused() -> None:
    config = published_config("google--gemma-4-26B-A4B")
    vision = {**config["vision_config"], "num_key_value_heads": 4}
    with pytest.raises(RefusedError, match="fewer KV heads"):
        vision_matrices({**config, "vision_config": vision}, "a model")
