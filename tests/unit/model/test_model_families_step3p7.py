"""Step Flash: heads and windows by layer, gates, names of fields in either form."""

from typing import Any

import pytest
from shared_configs import named, parameters, published_config, skeleton

from rayserve_par.errors import RefusedError
from rayserve_par.model.families.step3p7 import read
from rayserve_par.model.ffn import DenseMlp, MoeMlp

FLASH = "stepfun-ai--Step-3.7-Flash"


def test_published() -> None:
    """196,428,160,256 in Step3p7TextModel of transformers on the meta device, with 96 heads in
    windowed layers and without output head and router biases; "196B language backbone" on
    https://huggingface.co/stepfun-ai/Step-3.7-Flash."""
    found = skeleton(published_config(FLASH))
    counted = parameters(found, 4096) + 128_896 * 4096 + 4096
    assert counted == 196_428_160_256 + 42 * 288


def test_windowed_layers_have_more_heads_and_the_same_kv() -> None:
    layers = skeleton(published_config(FLASH)).layers
    first, second = layers[0].mixer, layers[1].mixer
    assert first is not None
    assert second is not None
    assert (first.num_heads, first.window_tokens) == (64, None)
    assert (second.num_heads, second.window_tokens) == (96, 512)
    assert {m.kv_values_per_token_per_rank(8) for m in (first, second)} == {256}
    assert named(layers[1], "self_attn.g_proj", 4096).out_features == 96


def test_three_dense_layers_then_experts() -> None:
    found = skeleton(published_config(FLASH))
    assert [type(layer.ffn) for layer in found.layers] == [DenseMlp] * 3 + [MoeMlp] * 42
    assert [type(layer.ffn) for layer in found.mtp_layers] == [DenseMlp] * 3
    assert [la.mixer.window_tokens for la in found.mtp_layers if la.mixer] == [512] * 3


def test_field_names_of_the_published_config_mean_the_same() -> None:
    """As https://huggingface.co/stepfun-ai/Step-3.5-Flash/blob/main/config.json has them."""
    config = published_config(FLASH)
    other = {
        "attention_type": "sliding_attention",
        "num_attention_heads": 96,
        "num_attention_groups": 8,
        "head_dim": 128,
    }
    names = ("num_experts", "num_experts_per_tok", "num_key_value_heads", "first_k_dense_replace")
    published = {key: value for key, value in config.items() if key not in names} | {
        "moe_num_experts": 288,
        "moe_top_k": 8,
        "num_attention_groups": 8,
        "moe_layers_enum": ",".join(map(str, range(3, 45))),
        "use_head_wise_attn_gate": True,
        "attention_other_setting": other,
    }
    assert read(published, "Step-3.5-Flash") == read(config, "Step-3.7-Flash")


@pytest.mark.parametrize(
    ("changes", "heads"),
    [
        ({"attention_other_setting": {"num_attention_heads": 80, "num_attention_groups": 4}}, 80),
        ({"num_sliding_attention_heads": 64}, 64),
    ],
)
def test_heads_of_windowed_layers_that_the_config_gives(
    changes: dict[str, Any], heads: int
) -> None:
    mixer = read({**published_config(FLASH), **changes}, "a model").layers[1].mixer
    assert mixer is not None
    assert mixer.num_heads == heads


def test_a_config_without_layer_types_is_refused() -> None:
    with pytest.raises(RefusedError, match="layer_types"):
        read({**published_config(FLASH), "layer_types": None}, "a model")
