"""Every method of a quantisation config, the KV cache, and what is refused."""

from typing import Any

import pytest

from rayserve_par.errors import RefusedError
from rayserve_par.model.component import Component
from rayserve_par.model.matrix import Matrix, Split, vector
from rayserve_par.model.quantisation import QuantisationRules, quantization_of, rules_from_config
from rayserve_par.model.weight_format import BF16, FP16, FP32, MXFP4, WeightFormat

MODULES = {
    "self_attn.o_proj": Component.ATTENTION,
    "linear_attn.out_proj": Component.RECURRENT,
    "mlp.down_proj": Component.DENSE_MLP,
    "mlp.experts.0.down_proj": Component.ROUTED_EXPERTS,
    "mlp.shared_experts.down_proj": Component.SHARED_EXPERTS,
}
OTHERS = {
    "mlp.gate": Component.ROUTER,
    "lm_head": Component.HEAD,
    "embed_tokens": Component.EMBEDDING,
    "visual.blocks.0.attn.qkv": Component.VISION,
    "mlp.shared_expert_gate": Component.SHARED_EXPERTS,
    "self_attn.indexer.weights_proj": Component.ATTENTION,
}


def rules(quant: dict[str, Any] | None, base: WeightFormat = BF16) -> QuantisationRules:
    return rules_from_config(quant, name="m", base=base)


def stored(quant: dict[str, Any] | None, name: str, layer: int = 4) -> WeightFormat:
    part = (MODULES | OTHERS)[name]
    whole = part in (Component.HEAD, Component.EMBEDDING, Component.VISION)
    module = name if whole else f"model.layers.{layer}.{name}"
    return rules(quant).format_of(module, Matrix(name, part, 1024, 1024, Split.WHOLE))


def compressed(targets: tuple[str, ...] = ("Linear",), **weights: Any) -> dict[str, Any]:
    groups = {"group_0": {"targets": list(targets), "weights": weights}}
    return {"quant_method": "compressed-tensors", "config_groups": groups}


def quark(weight: dict[str, Any] | list[dict[str, Any]]) -> dict[str, Any]:
    return {"quant_method": "quark", "global_quant_config": {"weight": weight}}


FP8 = {"quant_method": "fp8"}
BLOCK = {**FP8, "weight_block_size": [128, 128]}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128}
OCP = {"dtype": "fp4", "qscheme": "per_group", "group_size": 32}
INPUTS = {"num_bits": 4, "type": "float"}


@pytest.mark.parametrize(
    ("quant", "name", "bits_of_1024x1024"),
    [
        (None, "bf16", 16),
        ({}, "bf16", 16),
        (FP8, "fp8", 8 + 32 / 2**20),
        (BLOCK, "fp8-block128", 8 + 32 / 128**2),
        ({**FP8, "weight_block_size": [1, 32]}, "fp8-block1x32", 9),
        ({**BLOCK, "scale_fmt": "ue8m0"}, "fp8-block128", 8 + 32 / 128**2),
        ({**BLOCK, "scale_fmt": "ue8m0", "expert_dtype": "fp4"}, "fp8-block128", 8 + 8 / 128**2),
        ({"quant_method": "fbgemm_fp8"}, "fp8-channel", 8 + 32 / 1024),
        ({"quant_method": "mxfp8"}, "mxfp8", 8.25),
        ({"quant_algo": "FP8", "ignore": []}, "fp8", 8 + 32 / 2**20),
        ({"quant_method": "modelopt", "quant_algo": "nvfp4", "ignore": []}, "nvfp4", 4.5),
        ({"quant_algo": "FP8_PB_WO", "ignore": []}, "fp8-block128", 8 + 32 / 128**2),
        ({"quant_algo": "MXFP8", "ignore": []}, "mxfp8", 8.25),
        ({"quant_algo": "W4A16_NVFP4", "ignore": []}, "nvfp4-w4a16", 4.5),
        (
            {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4"}},
            "nvfp4",
            4.5,
        ),
        (compressed(num_bits=8, type="float", strategy="channel"), "fp8-channel", 8 + 32 / 1024),
        (compressed(num_bits=8, type="float", strategy="tensor"), "fp8", 8 + 32 / 2**20),
        (
            compressed(num_bits=8, type="float", strategy="block", block_structure=[128, 128]),
            "fp8-block128",
            8 + 32 / 128**2,
        ),
        (compressed(num_bits=8, type="float", strategy="group", group_size=32), "mxfp8", 8.25),
        (compressed(num_bits=4, type="int", group_size=32), "int4-g32", 4.5),
        (compressed(num_bits=4, type="int", group_size=32, symmetric=False), "int4-g32", 4.625),
        (compressed(num_bits=8, type="int", strategy="channel"), "int8", 8 + 16 / 1024),
        (compressed(num_bits=4, type="float", group_size=32), "mxfp4", 4.25),
        (compressed(num_bits=4, type="float", group_size=16), "nvfp4-w4a16", 4.5),
        (AWQ, "int4-g128", 4 + 20 / 128),
        ({**AWQ, "zero_point": False}, "int4-g128", 4 + 16 / 128),
        ({"quant_method": "awq", "w_bit": 4, "q_group_size": 64}, "int4-g64", 4 + 20 / 64),
        (GPTQ, "int4-g128", 4 + 20 / 128),
        ({**GPTQ, "bits": 8, "group_size": 64}, "int8-g64", 8 + 24 / 64),
        ({**GPTQ, "group_size": -1}, "int4", 4 + 20 / 1024),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bnb4", 4.5),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "int8", 8 + 16 / 1024),
        (quark(OCP), "mxfp4", 4.25),
        (quark({"dtype": "fp8_e4m3", "qscheme": "per_tensor"}), "fp8", 8 + 32 / 2**20),
        (quark([{"dtype": "fp8_e4m3", "qscheme": "per_channel"}]), "fp8-channel", 8 + 32 / 1024),
    ],
)
def test_formats(quant: dict[str, Any] | None, name: str, bits_of_1024x1024: float) -> None:
    found = stored(quant, "mlp.down_proj")
    assert found.name == name
    assert found.matrix_bytes(1024, 1024) * 8 / 2**20 == pytest.approx(bits_of_1024x1024, rel=1e-12)


@pytest.mark.parametrize(
    ("quant", "compute_bits"),
    [
        (BLOCK, 8),
        (AWQ, 16),
        ({"quant_algo": "NVFP4", "ignore": []}, 4),
        ({"quant_algo": "W4A16_NVFP4", "ignore": []}, 16),
        (compressed(num_bits=8, type="float", strategy="tensor"), 16),
        (compressed(num_bits=4, type="int", group_size=32), 16),
    ],
)
def test_width_of_the_product(quant: dict[str, Any], compute_bits: float) -> None:
    assert stored(quant, "mlp.down_proj").compute_bits == compute_bits


def test_quantised_inputs_lower_the_width_of_the_product() -> None:
    quant = compressed(num_bits=4, type="float", group_size=16)
    quant["config_groups"]["group_0"]["input_activations"] = INPUTS
    assert stored(quant, "mlp.down_proj").compute_bits == 4


@pytest.mark.parametrize("method", ["fp8", "fbgemm_fp8", "awq", "bitsandbytes", "mxfp8"])
def test_linear_layers_are_quantised_and_nothing_else(method: str) -> None:
    quant = {"quant_method": method}
    assert all(stored(quant, name).is_quantised for name in MODULES)
    assert all(stored(quant, name) is BF16 for name in OTHERS)


def test_mxfp4_quantises_experts_alone() -> None:
    quant = {"quant_method": "mxfp4"}
    found = {name for name in MODULES | OTHERS if stored(quant, name).is_quantised}
    assert found == {"mlp.experts.0.down_proj"}


def test_vectors_are_never_quantised() -> None:
    norm = vector("mlp.down_bias", Component.DENSE_MLP, 1024, Split.WHOLE)
    assert rules(FP8).format_of("model.layers.0.mlp.down_bias", norm) is BF16


def test_what_is_not_quantised_is_stored_in_the_base_format() -> None:
    router = Matrix("mlp.gate", Component.ROUTER, 8, 64, Split.WHOLE)
    found = rules(FP8, base=FP16)
    assert found.format_of("model.layers.0.mlp.gate", router) is FP16
    assert found.format_of("model.layers.0.mlp.gate", router.stored_as(FP32)) is FP32


@pytest.mark.parametrize(
    ("key", "entry"),
    [
        ("ignore", "re:.*self_attn.*"),
        ("ignored_layers", "model.layers.4.self_attn.o_proj"),
        ("modules_to_not_convert", "self_attn"),
        ("exclude_modules", "model.layers.4.self_attn*"),
        ("exclude", "*self_attn*"),
        ("llm_int8_skip_modules", "o_proj"),
    ],
)
def test_every_key_of_an_ignore_list_counts(key: str, entry: str) -> None:
    quant = {**BLOCK, key: [entry]}
    assert not stored(quant, "self_attn.o_proj").is_quantised
    assert stored(quant, "mlp.down_proj").is_quantised


def test_groups_of_compressed_tensors_mix_formats() -> None:
    quant = compressed(num_bits=8, type="float", strategy="tensor")
    quant["config_groups"]["group_1"] = {
        "targets": ["re:.*experts.*_proj", "lm_head"],
        "weights": {"num_bits": 4, "type": "int", "group_size": 32},
    }
    assert stored(quant, "mlp.down_proj").name == "fp8"
    assert stored(quant, "mlp.experts.0.down_proj").name == "int4-g32"
    assert stored(quant, "lm_head").name == "int4-g32"
    assert stored(quant, "mlp.gate") is BF16
    assert rules(quant).name == "int4-g32+fp8"


def test_gptq_rules_by_module() -> None:
    quant = {
        **GPTQ,
        "lm_head": True,
        "dynamic": {"-:.*self_attn.*": {}, "+:.*experts.*": {"bits": 8, "group_size": 32}},
    }
    assert stored(quant, "self_attn.o_proj") is BF16
    assert stored(quant, "mlp.experts.0.down_proj").name == "int8-g32"
    assert stored(quant, "mlp.down_proj").name == "int4-g128"
    assert stored(quant, "lm_head").name == "int4-g128"


def test_quark_rules_by_module() -> None:
    fp8 = {"weight": {"dtype": "fp8_e4m3", "qscheme": "per_tensor"}}
    quant = {**quark(OCP), "layer_quant_config": {"*self_attn*": fp8}, "exclude": ["lm_head"]}
    assert stored(quant, "self_attn.o_proj").name == "fp8"
    assert stored(quant, "mlp.down_proj").name == "mxfp4"


def test_mixed_precision_quantises_what_it_names() -> None:
    layers = {
        "model.layers.4.self_attn.o_proj": {"quant_algo": "FP8"},
        "model.layers.4.mlp.experts.0.down_proj": {"quant_algo": "NVFP4", "group_size": 16},
        "model.layers.4.mlp.experts.1.down_proj": {"quant_algo": "FP8"},
        "lm_head": {"quant_algo": "W4A16_NVFP4"},
    }
    quant = {"quant_algo": "MIXED_PRECISION", "quantized_layers": layers}
    assert stored(quant, "self_attn.o_proj").name == "fp8"
    assert stored(quant, "self_attn.o_proj", layer=5) is BF16
    assert stored(quant, "mlp.experts.0.down_proj").name == "nvfp4"
    assert stored(quant, "lm_head").name == "nvfp4-w4a16"
    assert stored(quant, "mlp.down_proj") is BF16


def test_deepseek_v4_keeps_its_experts_in_four_bits() -> None:
    quant = {**BLOCK, "expert_dtype": "fp4"}
    assert stored(quant, "mlp.experts.0.down_proj") == MXFP4
    assert stored(quant, "mlp.shared_experts.down_proj").name == "fp8-block128"
    nvfp4 = {
        **quant,
        "moe_quant_algo": "NVFP4",
        "ignore": ["*.attn.*", "mtp.*"],
        "quantized_layers": {"layers.4.ffn.experts": {"quant_algo": "NVFP4"}},
    }
    assert stored(nvfp4, "mlp.experts.0.down_proj").name == "nvfp4"
    assert stored(nvfp4, "mlp.experts.0.down_proj", layer=43) == MXFP4
    assert stored(nvfp4, "self_attn.o_proj").name == "fp8-block128"


def test_a_bare_summary_leaves_attention_alone() -> None:
    quant = {"quantization": {"quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8"}}
    assert stored(quant, "self_attn.o_proj") is BF16
    assert stored(quant, "mlp.experts.0.down_proj").name == "nvfp4"
    assert stored(quant, "linear_attn.out_proj").name == "fp8"


FLOAT8 = {"dynamic": False, "num_bits": 8, "type": "float"}


@pytest.mark.parametrize(
    ("quant", "bits"),
    [
        (None, 16),
        (BLOCK, 16),
        ({**BLOCK, "kv_cache_scheme": FLOAT8}, 16),
        ({"quant_algo": "FP8", "ignore": [], "kv_cache_quant_algo": "FP8"}, 8),
        ({"quant_algo": "FP8", "ignore": [], "kv_cache_quant_algo": "NVFP4"}, 4.5),
        ({"quant_algo": "FP8", "ignore": [], "kv_cache_quant_algo": "INT8"}, 16),
        ({"quant_algo": "FP8", "ignore": [], "kv_cache_quant_algo": None}, 16),
        ({"quant_algo": "FP8", "ignore": [], "kv_cache_scheme": "FP8"}, 8),
        ({"quant_algo": "FP8", "ignore": [], "kv_cache_scheme": FLOAT8}, 8),
        ({"quant_algo": "FP8", "ignore": [], "kv_cache_scheme": {**FLOAT8, "dynamic": True}}, 16),
        ({"quant_algo": "FP8", "ignore": [], "kv_cache_scheme": INPUTS}, 4.5),
        ({"quant_algo": "FP8", "ignore": [], "kv_cache_scheme": {"type": "int"}}, 16),
        ({"quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}}, 8),
        ({**compressed(num_bits=4, type="int", group_size=32), "kv_cache_scheme": None}, 16),
        ({**compressed(num_bits=4, type="int", group_size=32), "kv_cache_scheme": FLOAT8}, 8),
    ],
)
def test_bits_of_the_kv_cache(quant: dict[str, Any] | None, bits: float) -> None:
    assert rules(quant).kv_cache_bits == bits


@pytest.mark.parametrize(
    ("quant", "message"),
    [
        ({"quant_method": "aqlm"}, "method 'aqlm' is not known. Known: fp8, .*gptq.*quark"),
        ({"bits": 4}, "method None is not known"),
        ({"quant_method": "modelopt", "quant_algo": "W4A8"}, "quant_algo 'W4A8' is not known"),
        ({"quant_algo": "MIXED_PRECISION"}, "without quantized_layers"),
        ({**FP8, "weight_block_size": [128]}, "not two positive numbers"),
        ({**FP8, "weight_block_size": [128, 0]}, "not two positive numbers"),
        (compressed(num_bits=3, type="int", group_size=32), "3 bits"),
        (compressed(num_bits=8, type="float", strategy="token"), "strategy 'token'"),
        ({"quant_method": "compressed-tensors"}, "name no weights"),
        (quark({"dtype": "mx6"}), "type 'mx6'"),
        ({**FP8, "ignore": ["re:["]}, "is no regex"),
    ],
)
def test_refused(quant: dict[str, Any], message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        rules(quant)


OWN = {"quant_method": "fp8"}
BESIDE = {"quantization": {"quant_algo": "NVFP4"}}
MIXED = {"quant_algo": "MIXED_PRECISION", "quantized_layers": {"lm_head": {"quant_algo": "FP8"}}}


@pytest.mark.parametrize(
    ("config", "beside", "counts"),
    [
        ({}, None, None),
        ({"quantization_config": None}, None, None),
        ({}, BESIDE, BESIDE),
        ({"quantization_config": None}, BESIDE, BESIDE),
        ({"quantization_config": OWN}, BESIDE, OWN),
        ({"text_config": {"quantization_config": OWN}}, BESIDE, OWN),
        ({"compression_config": OWN}, None, OWN),
        ({"quantization_config": {"quant_algo": "MIXED_PRECISION"}}, BESIDE, BESIDE),
        ({"quantization_config": MIXED}, BESIDE, MIXED),
        ({"quantization_config": OWN, "expert_dtype": "fp4"}, None, {**OWN, "expert_dtype": "fp4"}),
        ({"expert_dtype": "fp4"}, None, None),
    ],
)
def test_which_file_counts(
    config: dict[str, Any], beside: dict[str, Any] | None, counts: dict[str, Any] | None
) -> None:
    assert quantization_of(config, beside) == counts
