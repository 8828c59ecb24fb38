"""MiMo-V2: other heads in windowed layers, values shorter than keys."""

from typing import Any

import pytest
from shared_configs import parameters, published_config, skeleton

from rayserve_par.errors import RefusedError
from rayserve_par.model.families.mimo_v2 import read
from rayserve_par.model.ffn import DenseMlp, MoeMlp

FLASH = "XiaomiMiMo--MiMo-V2-Flash"


def test_published() -> None:
    """308,778,768,832 in MiMoV2FlashForCausalLM of transformers on the meta device (309B on
    https://huggingface.co/XiaomiMiMo/MiMo-V2-Flash), where router biases are no parameters."""
    found = skeleton(published_config(FLASH))
    counted = parameters(found, 4096) + 2 * 152_576 * 4096 + 4096
    assert counted == 308_778_768_832 + 47 * 256


@pytest.mark.parametrize(("tp", "everywhere", "windowed"), [(1, 1280, 2560), (8, 320, 320)])
def test_kv_of_both_kinds(tp: int, everywhere: int, windowed: int) -> None:
    """Keys of 192 and values of 128: 4 KV heads in global layers, 8 in windowed ones."""
    layers = skeleton(published_config(FLASH)).layers
    first, second = layers[0].mixer, layers[1].mixer
    assert first is not None
    assert second is not None
    assert first.kv_values_per_token_per_rank(tp) == everywhere
    assert second.kv_values_per_token_per_rank(tp) == windowed
    assert first.flops_per_pair_per_rank(tp, decode=True) == 64 / tp * 2 * (192 + 128)
    assert (first.window_tokens, second.window_tokens) == (None, 128)


def test_layers_follow_the_patterns() -> None:
    found = skeleton(published_config(FLASH))
    windows = [layer.mixer.window_tokens for layer in found.layers if layer.mixer]
    assert (windows.count(None), windows.count(128)) == (9, 39)
    assert [type(layer.ffn) for layer in found.layers] == [DenseMlp] + [MoeMlp] * 47
    names = {m.name for m in found.layers[1].matrices(4096)}
    assert "self_attn.sinks" in names
    assert "self_attn.sinks" not in {m.name for m in found.layers[0].matrices(4096)}


def test_mtp_is_windowed_with_a_dense_mlp() -> None:
    (mtp,) = skeleton(published_config(FLASH)).mtp_layers
    assert mtp.mixer is not None
    assert mtp.mixer.window_tokens == 128
    assert isinstance(mtp.ffn, DenseMlp)


@pytest.mark.parametrize("changes", [{"hybrid_layer_pattern": [0, 1]}, {"moe_layer_freq": 1}])
def test_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(RefusedError, match="one entry for each of 48 layers"):
        read({**published_config(FLASH), **changes}, "a model")
