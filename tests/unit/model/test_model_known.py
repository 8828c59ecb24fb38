"""Shipped configs: parameters against the published totals."""

import pytest

from rayserve_par.model import known_config, known_names, model_spec_from_config
from rayserve_par.model.component import Component

# Published totals: model cards and technical reports. Billions.
PUBLISHED = {
    "HuggingFaceTB/SmolLM2-135M-Instruct": (0.1345, 0.1345),
    "meta-llama/Llama-3.1-8B-Instruct": (8.03, 8.03),
    "nvidia/Llama-3.3-70B-Instruct-FP8": (70.55, 70.55),
    "meta-llama/Llama-3.1-405B-Instruct": (405.85, 405.85),
    "Qwen/Qwen3-235B-A22B-FP8": (235.1, 22.0),
    "deepseek-ai/DeepSeek-V3.1": (671.03, 37.55),
    "openai/gpt-oss-120b": (116.83, 5.71),
    "Qwen/Qwen3-0.6B": (0.596, 0.596),
    "Qwen/Qwen3-30B-A3B": (30.53, 3.35),
}


def test_every_shipped_model_has_a_published_total() -> None:
    assert set(known_names()) == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_within_one_percent_of_published(name: str) -> None:
    spec = model_spec_from_config(known_config(name) or {}, name)
    total, active = PUBLISHED[name]
    assert spec.parameters / 1e9 == pytest.approx(total, rel=0.01)
    assert spec.active_parameters / 1e9 == pytest.approx(active, rel=0.01)


def test_gpt_oss_counts_5_13b_active_without_the_embedding() -> None:
    # Its model card counts the head but not the embedding.
    spec = model_spec_from_config(known_config("openai/gpt-oss-120b") or {}, "gpt-oss")
    embedding = spec.parameters_by_component[Component.EMBEDDING]
    assert (spec.active_parameters - embedding) / 1e9 == pytest.approx(5.13, rel=0.01)


@pytest.mark.parametrize(
    ("name", "nominal_bits", "weights_gb", "kv_bytes"),
    [
        # Folder sizes as published on the hub, in decimal GB; KV bytes per token by hand.
        ("HuggingFaceTB/SmolLM2-135M-Instruct", 16, 0.269, 30 * 2 * 3 * 64 * 2),
        ("meta-llama/Llama-3.1-8B-Instruct", 16, 16.06, 32 * 2 * 8 * 128 * 2),
        # Its quantisation says that the KV cache is FP8 as well.
        ("nvidia/Llama-3.3-70B-Instruct-FP8", 8, 72.7, 80 * 2 * 8 * 128 * 1),
        ("meta-llama/Llama-3.1-405B-Instruct", 16, 811.7, 126 * 2 * 8 * 128 * 2),
        ("Qwen/Qwen3-235B-A22B-FP8", 8, 236.4, 94 * 2 * 4 * 128 * 2),
        ("deepseek-ai/DeepSeek-V3.1", 8, 673.2, 61 * (512 + 64) * 2),
        ("openai/gpt-oss-120b", 4.25, 65.25, 36 * 2 * 8 * 64 * 2),
        ("Qwen/Qwen3-0.6B", 16, 1.192, 28 * 2 * 8 * 128 * 2),
        ("Qwen/Qwen3-30B-A3B", 16, 61.06, 48 * 2 * 4 * 128 * 2),
    ],
)
def test_bytes(name: str, nominal_bits: float, weights_gb: float, kv_bytes: int) -> None:
    spec = model_spec_from_config(known_config(name) or {}, name)
    assert spec.weight_format.nominal_bits == nominal_bits
    assert spec.weight_bytes / 1e9 == pytest.approx(weights_gb, rel=0.005)
    assert spec.kv_bytes_per_token == kv_bytes


def test_a_name_that_is_not_shipped_is_none() -> None:
    assert known_config("meta-llama/Llama-9") is None
    assert known_config("../known/x") is None


@pytest.mark.parametrize("name", known_names())
def test_a_quantised_config_names_its_method_so_that_vllm_reads_it_too(name: str) -> None:
    quantised = (known_config(name) or {}).get("quantization_config")
    assert quantised is None or quantised["quant_method"]
