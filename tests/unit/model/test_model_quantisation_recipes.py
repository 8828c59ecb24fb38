"""The same model in another precision: formats, what is left alone, and shared layers."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayserve_par.errors import RefusedError
from rayserve_par.model import known_config, model_spec_from_config
from rayserve_par.model.component import Component
from rayserve_par.model.quantisation.recipes import PRECISIONS, with_precision
from rayserve_par.model.spec import ModelSpec
from rayserve_par.model.weight_format import BF16, FP32

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
DEEPSEEK = "deepseek-ai/DeepSeek-V3.1"
GPT_OSS = "openai/gpt-oss-120b"
QWEN = "Qwen/Qwen3-235B-A22B-FP8"
KNOWN = (LLAMA, DEEPSEEK, GPT_OSS, QWEN, "nvidia/Llama-3.3-70B-Instruct-FP8")
PRECISION = st.sampled_from(sorted(PRECISIONS))


def spec_of(name: str) -> ModelSpec:
    config = known_config(name)
    assert config is not None
    return model_spec_from_config(config, name)


MODELS = {name: spec_of(name) for name in KNOWN}


def formats(model: ModelSpec, part: Component) -> set[str]:
    return {m.format.name for _, m in model.matrices() if m.component is part and not m.is_vector}


@pytest.mark.parametrize(
    ("name", "precision", "attention", "mlp"),
    [
        (LLAMA, "bf16", {"bf16"}, {"bf16"}),
        (LLAMA, "fp16", {"fp16"}, {"fp16"}),
        (LLAMA, "fp8", {"fp8"}, {"fp8"}),
        (LLAMA, "fp8-block128", {"fp8-block128"}, {"fp8-block128"}),
        (LLAMA, "nvfp4", {"nvfp4"}, {"nvfp4"}),
        (LLAMA, "mxfp4", {"mxfp4"}, {"mxfp4"}),
        (LLAMA, "fp4", {"nvfp4"}, {"nvfp4"}),
        (LLAMA, "int4", {"int4-g128"}, {"int4-g128"}),
        (DEEPSEEK, "bf16", {"bf16"}, {"bf16"}),
        (DEEPSEEK, "fp8", {"fp8-block128"}, {"fp8-block128"}),
        (DEEPSEEK, "nvfp4", {"bf16", "nvfp4"}, {"nvfp4"}),
        (DEEPSEEK, "mxfp4", {"bf16"}, {"mxfp4"}),
        (QWEN, "nvfp4", {"nvfp4"}, {"nvfp4"}),
        (GPT_OSS, "fp4", {"bf16"}, {"mxfp4"}),
        (GPT_OSS, "nvfp4", {"bf16"}, {"nvfp4"}),
        (GPT_OSS, "bf16", {"bf16"}, {"bf16"}),
        (GPT_OSS, "fp8", {"fp8"}, {"fp8"}),
    ],
)
def test_formats_of_a_precision(
    name: str, precision: str, attention: set[str], mlp: set[str]
) -> None:
    made = with_precision(MODELS[name], precision)
    main = Component.ROUTED_EXPERTS if made.is_moe else Component.DENSE_MLP
    assert formats(made, Component.ATTENTION) == attention
    assert formats(made, main) == mlp


@given(name=st.sampled_from(KNOWN), precision=PRECISION)
def test_router_embedding_head_and_norms_keep_sixteen_bits(name: str, precision: str) -> None:
    made = with_precision(MODELS[name], precision)
    for part in (Component.ROUTER, Component.EMBEDDING, Component.HEAD):
        assert formats(made, part) <= {"bf16", "fp16"}
    assert all(not m.format.is_quantised for _, m in made.matrices() if m.is_vector)


@given(name=st.sampled_from(KNOWN), precision=PRECISION)
def test_parameters_and_layers_stay(name: str, precision: str) -> None:
    model = MODELS[name]
    made = with_precision(model, precision)
    assert made.parameters_by_component == model.parameters_by_component
    assert made.num_layers == model.num_layers
    assert len(made.mtp_layers) == len(model.mtp_layers)
    assert made.kv_cache_bits == model.kv_cache_bits
    assert [count for _, count in made.layer_counts] == [c for _, c in model.layer_counts]


@given(name=st.sampled_from(KNOWN), precision=PRECISION)
def test_twice_is_once_and_the_way_does_not_matter(name: str, precision: str) -> None:
    made = with_precision(MODELS[name], precision)
    assert with_precision(made, precision) is made
    if precision not in ("fp4", "fp8"):  # these keep what the model has
        again = with_precision(with_precision(MODELS[name], "bf16"), precision)
        assert again.weight_bytes == pytest.approx(made.weight_bytes, rel=1e-12)


@given(name=st.sampled_from(KNOWN))
def test_fewer_bits_are_fewer_bytes(name: str) -> None:
    sizes = [
        with_precision(MODELS[name], precision).weight_bytes
        for precision in ("bf16", "fp8-block128", "nvfp4")
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[2] < sizes[1] < sizes[0]


def mixed(**quant: Any) -> ModelSpec:
    config = {**(known_config(LLAMA) or {}), "quantization_config": quant}
    return model_spec_from_config(config, "mixed")


def test_layers_that_become_equal_become_one_object() -> None:
    ignored = [f"model.layers.{number}.mlp" for number in range(4)]
    model = mixed(quant_method="fp8", ignore=ignored)
    assert [count for _, count in model.layer_counts] == [4, 28]
    made = with_precision(model, "nvfp4")
    assert [count for _, count in made.layer_counts] == [32]


def test_what_a_reader_keeps_in_float32_stays_so() -> None:
    model = MODELS[DEEPSEEK]
    layer = model.layers[-1]
    routers = [m for m in layer.matrices if m.component is Component.ROUTER and not m.is_vector]
    wide = tuple(m.stored_as(FP32) if m in routers else m for m in layer.matrices)
    changed = type(layer)(layer.mixer, layer.ffn, wide)
    made = with_precision(
        ModelSpec(
            "m",
            model.model_type,
            model.architecture,
            model.hidden_size,
            model.vocab_size,
            model.max_context_tokens,
            (changed,),
            model.embedding,
            model.head,
        ),
        "nvfp4",
    )
    assert formats(made, Component.ROUTER) == {"fp32"}
    assert routers[0].format == BF16


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(RefusedError, match=r"precision 'int3' is not known\. Known: bf16, fp16"):
        with_precision(MODELS[LLAMA], "int3")
