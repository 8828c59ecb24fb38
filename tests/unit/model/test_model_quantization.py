"""quantization_config to a precision, and the bytes that follow."""

from typing import Any

import pytest

from rayserve_par.errors import RefusedError
from rayserve_par.model.hf_quantization import precision_from_config
from rayserve_par.model.precision import BF16, Component, Precision

LAYERS = {
    Component.ATTENTION: 4,
    Component.DENSE_MLP: 0,
    Component.ROUTED_EXPERTS: 4,
    Component.SHARED_EXPERTS: 4,
}
ALL = tuple(LAYERS)


def read(quant: dict[str, Any] | None) -> Precision:
    return precision_from_config(quant, name="m", base=BF16, layers=LAYERS)


def compressed(**weights: Any) -> dict[str, Any]:
    groups = {"group_0": {"targets": ["Linear"], "weights": weights}}
    return {"quant_method": "compressed-tensors", "config_groups": groups}


FP8 = {"quant_method": "fp8"}
BLOCK = {**FP8, "weight_block_size": [128, 128]}
NVFP4_GROUPS = {**compressed(num_bits=4, type="float", group_size=16), "quant_method": "modelopt"}


@pytest.mark.parametrize(
    ("quant", "name", "nominal", "bits_of_1024x1024"),
    [
        (None, "bf16", 16, 16),
        ({}, "bf16", 16, 16),
        (FP8, "fp8", 8, 8 + 32 / 2**20),
        (BLOCK, "fp8-block128", 8, 8 + 32 / 128**2),
        ({"quant_method": "mxfp4"}, "mxfp4", 4.25, 4.25),
        ({"quant_algo": "FP8"}, "fp8", 8, 8 + 32 / 2**20),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4", 4.5, 4.5),
        ({"producer": {}, "quantization": {"quant_algo": "NVFP4"}}, "nvfp4", 4.5, 4.5),
        (NVFP4_GROUPS, "nvfp4", 4.5, 4.5),
        (
            compressed(num_bits=8, type="float", strategy="channel"),
            "fp8-channel",
            8,
            8 + 16 / 1024,
        ),
        (compressed(num_bits=8, type="float", strategy="tensor"), "fp8", 8, 8 + 32 / 2**20),
        (
            compressed(num_bits=8, type="float", strategy="block", block_structure=[128, 128]),
            "fp8-block128",
            8,
            8 + 32 / 128**2,
        ),
        (compressed(num_bits=4, type="int", group_size=32), "int4-g32", 4.5, 4.5),
        (compressed(num_bits=4, type="float", group_size=32), "mxfp4", 4.25, 4.25),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, "int4-g128", 4.25, 4 + 20 / 128),
        ({"quant_method": "gptq", "bits": 8, "group_size": 64}, "int8-g64", 8.5, 8 + 24 / 64),
        ({"quant_method": "gptq", "bits": 4, "group_size": -1}, "int4", 4, 4 + 20 / 1024),
    ],
)
def test_formats(
    quant: dict[str, Any] | None, name: str, nominal: float, bits_of_1024x1024: float
) -> None:
    found = read(quant)
    assert (found.name, found.nominal_bits) == (name, nominal)
    size = found.matrix_bytes(Component.ATTENTION, 1024, 1024)
    assert size * 8 / 2**20 == pytest.approx(bits_of_1024x1024, rel=1e-12)
    assert found.matrix_bytes(Component.EMBEDDING, 1024, 1024) == 2 * 2**20


@pytest.mark.parametrize(
    ("key", "ignored", "quantised"),
    [
        ("modules_to_not_convert", ["lm_head"], ALL),
        ("modules_to_not_convert", ["model.layers.0.input_layernorm", "gate"], ALL),
        ("modules_to_not_convert", ["model.layers.*.self_attn"], ALL[1:]),
        ("modules_to_not_convert", ["model.layers.4.self_attn"], ALL[1:]),
        ("modules_to_not_convert", ["model.layers.40.self_attn"], ALL),
        ("modules_to_not_convert", ["self_attn", "mlp.down_proj"], ALL[2:]),
        ("ignore", ["lm_head", "re:.*self_attn.*", "re:.*shared_experts.*"], ALL[1:3]),
        ("ignore", ["re:.*mlp\\.(gate|up|gate_up|down)_proj.*"], (ALL[0], *ALL[2:])),
        ("ignore", ["language_model.model.layers.4.self_attn*"], ALL[1:]),
        ("exclude_modules", ["*.mlp.shared_experts.*", "model.layers.0*"], (ALL[0], ALL[2])),
    ],
)
def test_ignore_lists(key: str, ignored: list[str], quantised: tuple[Component, ...]) -> None:
    assert read({**BLOCK, key: ignored}).quantised == quantised


def test_components_that_the_model_has_not_are_not_quantised() -> None:
    dense = {Component.ATTENTION: 1, Component.DENSE_MLP: 1}
    found = precision_from_config(FP8, name="m", base=BF16, layers=dense)
    assert found.quantised == tuple(dense)


@pytest.mark.parametrize(
    ("quant", "message"),
    [
        ({"quant_method": "bitsandbytes"}, "'bitsandbytes' is not known. Known: fp8"),
        ({"quant_method": "modelopt", "quant_algo": "W4A8"}, "quant_algo 'W4A8' is not known"),
        ({**FP8, "weight_block_size": [128]}, "not two positive numbers"),
        (compressed(num_bits=3, type="int", group_size=32), "3 bits"),
        ({"quant_method": "compressed-tensors"}, "0 weight formats"),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {
                    "a": {"weights": {"num_bits": 4, "type": "int", "group_size": 32}},
                    "b": {"weights": {"num_bits": 8, "type": "float"}},
                },
            },
            r"2 weight formats \(fp8, int4-g32\)",
        ),
        ({**FP8, "ignore": ["re:.*"]}, "leaves out every linear layer"),
    ],
)
def test_refused(quant: dict[str, Any], message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        read(quant)


def test_scales_of_cut_blocks_are_whole() -> None:
    block = Precision("b", 8, scale_rows=128, scale_columns=128, scale_bits=32, quantised=ALL)
    size = block.matrix_bytes(Component.ATTENTION, 129, 128)
    assert size == 129 * 128 + 2 * 1 * 4
