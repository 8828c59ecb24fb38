"""Published checkpoints: which parts are quantised, how large they are, and how fast we tell."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from rayserve_par.model import model_spec_from_config
from rayserve_par.model.component import Component
from rayserve_par.model.matrix import Matrix, Split
from rayserve_par.model.quantisation import quantization_of, rules_from_config
from rayserve_par.model.quantisation.recipes import with_precision
from rayserve_par.model.spec import ModelSpec
from rayserve_par.model.weight_format import BF16

CONFIGS = Path(__file__).resolve().parents[4] / "shared" / "model_configs"


def read(folder: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """config.json and, where there is one, hf_quant_config.json."""
    path = CONFIGS / folder
    if not path.is_dir():
        pytest.skip(f"{path} is not here")
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    beside = path / "hf_quant_config.json"
    return config, json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else None


def spec_of(folder: str) -> ModelSpec:
    config, beside = read(folder)
    quant = quantization_of(config, beside)
    return model_spec_from_config(config, folder.replace("--", "/"), quantization=quant)


def formats_of(model: ModelSpec) -> dict[str, str]:
    """The formats of each component's matrices, the small unquantised ones left out."""
    found: dict[Component, dict[str, int]] = {}
    for count, matrix in model.matrices():
        if not matrix.is_vector:
            sizes = found.setdefault(matrix.component, {})
            sizes[matrix.format.name] = sizes.get(matrix.format.name, 0) + count * matrix.parameters
    return {part.value: _main_names(sizes) for part, sizes in found.items()}


def _main_names(sizes: dict[str, int]) -> str:
    total = sum(sizes.values())
    return "+".join(sorted(name for name, size in sizes.items() if size > 0.02 * total))


A, R, D, E, S, H, V = (
    "attention",
    "recurrent",
    "dense_mlp",
    "routed_experts",
    "shared_experts",
    "head",
    "vision",
)

PLAIN = ("embedding", "router", H, V)


@pytest.mark.parametrize(
    ("folder", "formats", "kv_cache_bits"),
    [
        ("deepseek-ai--DeepSeek-V3", dict.fromkeys((A, D, E, S), "fp8-block128"), 16),
        ("zai-org--GLM-5.2-FP8", dict.fromkeys((A, D, E, S), "fp8-block128"), 16),
        ("MiniMaxAI--MiniMax-M2.5", dict.fromkeys((A, E), "fp8-block128"), 16),
        ("Qwen--Qwen3-235B-A22B-FP8", dict.fromkeys((A, E), "fp8-block128"), 16),
        ("Qwen--Qwen3-32B-FP8-Static-PerTensor", dict.fromkeys((A, D), "fp8"), 8),
        ("nvidia--Llama-3.1-70B-Instruct-FP8", dict.fromkeys((A, D), "fp8"), 8),
        ("openai--gpt-oss-120b", {A: "bf16", E: "mxfp4"}, 16),
        ("deepseek-ai--DeepSeek-V4-Flash", {A: "fp8-block128", E: "mxfp4", S: "fp8-block128"}, 8),
        ("nvidia--DeepSeek-V4-Flash-NVFP4", {A: "fp8-block128", E: "nvfp4", S: "fp8-block128"}, 8),
        ("sgl-project--DeepSeek-V4-Flash-FP8", dict.fromkeys((A, E, S), "fp8-block128"), 8),
        (
            "nvidia--DeepSeek-V3.1-NVFP4",
            {A: "bf16+nvfp4", D: "nvfp4", E: "nvfp4", S: "nvfp4"},
            8,
        ),
        ("nvidia--GLM-5-NVFP4", {A: "bf16", D: "nvfp4", E: "nvfp4", S: "nvfp4"}, 8),
        ("nvidia--GLM-5.1-NVFP4", {A: "bf16", D: "bf16", E: "nvfp4", S: "bf16"}, 8),
        ("nvidia--Kimi-K2.5-NVFP4", {A: "bf16", D: "nvfp4", E: "nvfp4", S: "nvfp4"}, 8),
        ("nvidia--Kimi-K2.6-NVFP4", {A: "bf16", D: "bf16", E: "nvfp4", S: "bf16"}, 8),
        ("moonshotai--Kimi-K2.5", {A: "bf16", D: "bf16", E: "int4-g32", S: "bf16"}, 16),
        ("moonshotai--Kimi-K3", {A: "bf16", R: "bf16", D: "bf16", E: "mxfp4", S: "bf16"}, 16),
        ("nvidia--MiniMax-M2.5-NVFP4", {A: "bf16", E: "nvfp4"}, 8),
        ("nvidia--MiniMax-M3-NVFP4", {A: "mxfp8", D: "mxfp8", E: "nvfp4", S: "mxfp8"}, 16),
        ("nvidia--Gemma-4-26B-A4B-NVFP4", {A: "bf16", D: "bf16", E: "nvfp4"}, 8),
        ("nvidia--Gemma-4-31B-IT-NVFP4", {A: "bf16", D: "nvfp4"}, 8),
        ("nvidia--Qwen3-235B-A22B-NVFP4", {A: "nvfp4", E: "nvfp4"}, 8),
        ("nvidia--Qwen3.5-397B-A17B-NVFP4", {A: "bf16", R: "bf16", E: "nvfp4", S: "bf16"}, 8),
        ("nvidia--Qwen3.6-27B-NVFP4", {A: "fp8", R: "fp8", D: "nvfp4-w4a16", H: "nvfp4-w4a16"}, 8),
        (
            "nvidia--Qwen3.6-35B-A3B-NVFP4",
            {A: "fp8", R: "fp8", E: "nvfp4-w4a16", S: "nvfp4-w4a16", H: "nvfp4-w4a16"},
            16,
        ),
        (
            "nvidia--NVIDIA-Nemotron-3-Nano-30B-A3B-NVFP4",
            {A: "bf16", R: "bf16+nvfp4", E: "nvfp4", S: "nvfp4"},
            8,
        ),
        (
            "nvidia--NVIDIA-Nemotron-3.5-Lightning-30B-A3B-NVFP4",
            {A: "bf16", R: "fp8", E: "nvfp4-w4a16", S: "nvfp4-w4a16", H: "nvfp4-w4a16"},
            8,
        ),
    ],
)
def test_what_a_published_checkpoint_quantises(
    folder: str, formats: dict[str, str], kv_cache_bits: float
) -> None:
    model = spec_of(folder)
    found = formats_of(model)
    assert {part: found[part] for part in formats} == formats
    others = {part: name for part, name in found.items() if part in PLAIN and part not in formats}
    assert set(others.values()) <= {"bf16", "fp32"}, others
    assert model.kv_cache_bits == kv_cache_bits


def test_attention_of_deepseek_nvfp4_is_four_bit_in_its_output_alone() -> None:
    layer = spec_of("nvidia--DeepSeek-V3.1-NVFP4").layers[30]
    found = {m.name: m.format.name for m in layer.matrices if m.component is Component.ATTENTION}
    quantised = {name for name, stored in found.items() if stored == "nvfp4"}
    assert quantised == {"self_attn.o_proj"}


def mtp_bytes(model: ModelSpec) -> float:
    return sum(matrix.weight_bytes for layer in model.mtp_layers for matrix in layer.matrices)


def tables_bytes(model: ModelSpec) -> float:
    """Embedding and head: DeepSeek's files hold them once more for the MTP layer."""
    return model.embedding.weight_bytes + sum(matrix.weight_bytes for matrix in model.head)


@pytest.mark.parametrize(
    ("folder", "published_bytes", "tolerance"),
    [
        # Size that Hugging Face and Ollama's library (deepseek-v3.1:671b) give.
        ("deepseek-ai--DeepSeek-V3", 688_586_727_753, 0.001),
        # All files of nvidia/DeepSeek-R1-0528-NVFP4-v2, the same recipe: as measured in
        # github.com/edwardsp/blobcache.
        ("nvidia--DeepSeek-V3.1-NVFP4", 413_340_567_567, 0.001),
        # vLLM's "Checkpoint size" at start-up: 148.66 GiB.
        ("deepseek-ai--DeepSeek-V4-Flash", 148.66 * 2**30, 0.001),
        # vLLM's "Checkpoint size" of AMD's NVFP4 of the same model: 850.38 GiB, in
        # github.com/vllm-project/vllm/pull/47972.
        ("nvidia--DeepSeek-V4-Pro-NVFP4", 850.38 * 2**30, 0.001),
    ],
)
def test_size_on_disk_with_draft_layers(
    folder: str, published_bytes: float, tolerance: float
) -> None:
    model = spec_of(folder)
    size = model.weight_bytes + mtp_bytes(model)
    if model.model_type == "deepseek_v3":
        size += tables_bytes(model)
    assert size == pytest.approx(published_bytes, rel=tolerance)


@pytest.mark.parametrize(
    ("folder", "published_bytes", "tolerance"),
    [
        # Table 1 of the gpt-oss model card, arXiv:2508.10925.
        ("openai--gpt-oss-120b", 60.8 * 2**30, 0.002),
        ("openai--gpt-oss-20b", 12.8 * 2**30, 0.002),
        # docs.nvidia.com/nemotron, quantization of ultra3: "331 GB measured".
        ("nvidia--NVIDIA-Nemotron-3-Ultra-550B-A55B-NVFP4", 331e9, 0.01),
        # Hugging Face's file sizes.
        ("moonshotai--Kimi-K2.5", 595e9, 0.005),
    ],
)
def test_size_without_draft_layers(folder: str, published_bytes: float, tolerance: float) -> None:
    assert spec_of(folder).weight_bytes == pytest.approx(published_bytes, rel=tolerance)


@pytest.mark.parametrize(
    ("folder", "quant", "loaded_gib"),
    [
        # Qwen/Qwen3-8B-AWQ, "Checkpoint size: 5.68 GiB" of vLLM 0.20.
        ("Qwen--Qwen3-8B", {"quant_method": "awq", "bits": 4, "group_size": 128}, 5.68),
        # Qwen_WebWorld-8B-W4A16 (GPTQ), "Model loading took 5.68 GiB" of vLLM 0.21.
        ("Qwen--Qwen3-8B", {"quant_method": "gptq", "bits": 4, "group_size": 128}, 5.68),
        # nytopop/Qwen3-30B-A3B.w4a16: github.com/vllm-project/vllm/issues/17327.
        ("Qwen--Qwen3-30B-A3B", {"quant_method": "gptq", "bits": 4, "group_size": 128}, 15.6841),
    ],
)
def test_four_bit_integers_as_loaded(folder: str, quant: dict[str, Any], loaded_gib: float) -> None:
    model = model_spec_from_config(read(folder)[0], folder, quantization=quant)
    assert model.weight_bytes / 2**30 == pytest.approx(loaded_gib, rel=0.005)


@pytest.mark.parametrize(
    ("folder", "least_entries"),
    [
        ("zai-org--GLM-5-FP8", 700),
        ("nvidia--DeepSeek-V3.2-NVFP4", 300),
        ("nvidia--Qwen3.6-27B-NVFP4", 400),
        ("nvidia--Gemma-4-26B-A4B-NVFP4", 90),
        ("moonshotai--Kimi-K2.5", 4),
        ("nvidia--MiniMax-M3-NVFP4", 22_000),
    ],
)
def test_long_lists_are_read_and_asked_fast(folder: str, least_entries: int) -> None:
    quant = quantization_of(*read(folder))
    assert quant is not None
    inner = quant.get("quantization", quant)
    keys = ("ignore", "exclude_modules", "modules_to_not_convert", "quantized_layers")
    assert sum(len(inner.get(key) or ()) for key in keys) >= least_entries
    tails = {f"self_attn.part{n}_proj": Component.ATTENTION for n in range(10)}
    tails |= {f"mlp.experts.0.part{n}_proj": Component.ROUTED_EXPERTS for n in range(10)}
    matrices = [Matrix(tail, part, 64, 64, Split.WHOLE) for tail, part in tails.items()]

    def seconds() -> float:
        begin = time.process_time()
        rules = rules_from_config(quant, name=folder, base=BF16)
        for layer in range(100):
            for matrix in matrices:
                rules.format_of(f"model.layers.{layer}.{matrix.name}", matrix)
        return time.process_time() - begin

    assert min(seconds() for _ in range(3)) < 0.15  # 0.05 on an idle machine


@pytest.mark.parametrize(
    ("base", "precision", "published", "tolerance"),
    [
        ("deepseek-ai--DeepSeek-V3", "nvfp4", "nvidia--DeepSeek-V3.1-NVFP4", 1e-9),
        ("deepseek-ai--DeepSeek-V3", "fp4", "nvidia--DeepSeek-V3.1-NVFP4", 1e-9),
        ("deepseek-ai--DeepSeek-V3.2", "nvfp4", "nvidia--DeepSeek-V3.2-NVFP4", 1e-9),
        ("deepseek-ai--DeepSeek-V4-Flash", "nvfp4", "nvidia--DeepSeek-V4-Flash-NVFP4", 1e-9),
        ("deepseek-ai--DeepSeek-V4-Pro", "nvfp4", "nvidia--DeepSeek-V4-Pro-NVFP4", 1e-9),
        ("deepseek-ai--DeepSeek-V4-Pro", "fp8-block128", "sgl-project--DeepSeek-V4-Pro-FP8", 1e-3),
        ("Qwen--Qwen3-235B-A22B", "nvfp4", "nvidia--Qwen3-235B-A22B-NVFP4", 1e-9),
        ("Qwen--Qwen3-235B-A22B-FP8", "nvfp4", "nvidia--Qwen3-235B-A22B-NVFP4", 1e-9),
        ("Qwen--Qwen3-235B-A22B", "fp8-block128", "Qwen--Qwen3-235B-A22B-FP8", 1e-9),
        ("Qwen--Qwen3-32B", "fp8-block128", "Qwen--Qwen3-32B-FP8", 1e-9),
        ("Qwen--Qwen3-32B", "fp8", "Qwen--Qwen3-32B-FP8-Static-PerTensor", 1e-9),
        ("Qwen--Qwen3-32B-FP8", "bf16", "Qwen--Qwen3-32B", 1e-9),
        # The folder of the plain model has no vision tower.
        ("Qwen--Qwen3.5-397B-A17B", "nvfp4", "nvidia--Qwen3.5-397B-A17B-NVFP4", 0.005),
        ("Qwen--Qwen3.5-122B-A10B", "nvfp4", "nvidia--Qwen3.5-122B-A10B-NVFP4", 0.012),
        ("Qwen--Qwen3.5-27B", "nvfp4", "nvidia--Qwen3.6-27B-NVFP4", 1e-2),
        ("meta-llama--Meta-Llama-3.1-70B", "fp8", "nvidia--Llama-3.1-70B-Instruct-FP8", 1e-9),
        ("MiniMaxAI--MiniMax-M2.5", "nvfp4", "nvidia--MiniMax-M2.5-NVFP4", 1e-9),
        ("MiniMaxAI--MiniMax-M3", "nvfp4", "nvidia--MiniMax-M3-NVFP4", 0.01),
        ("google--gemma-4-26B-A4B", "nvfp4", "nvidia--Gemma-4-26B-A4B-NVFP4", 1e-9),
        ("zai-org--GLM-5.1", "nvfp4", "nvidia--GLM-5.1-NVFP4", 1e-9),
        ("zai-org--GLM-5.2-FP8", "nvfp4", "nvidia--GLM-5.2-NVFP4", 1e-9),
        ("zai-org--GLM-5", "fp8-block128", "zai-org--GLM-5-FP8", 1e-9),
        # The first GLM-5 and Kimi-K2.5 quantise the shared experts too, later releases do not.
        ("zai-org--GLM-5", "nvfp4", "nvidia--GLM-5-NVFP4", 0.012),
        ("moonshotai--Kimi-K2.5", "nvfp4", "nvidia--Kimi-K2.5-NVFP4", 0.01),
        ("moonshotai--Kimi-K2.5", "nvfp4", "nvidia--Kimi-K2.6-NVFP4", 1e-9),
        (
            "nvidia--NVIDIA-Nemotron-3-Ultra-550B-A55B-BF16",
            "nvfp4",
            "nvidia--NVIDIA-Nemotron-3-Ultra-550B-A55B-NVFP4",
            1e-9,
        ),
        # Nano leaves single layers in 16 bits, chosen by sensitivity.
        (
            "nvidia--NVIDIA-Nemotron-3-Nano-30B-A3B-BF16",
            "nvfp4",
            "nvidia--NVIDIA-Nemotron-3-Nano-30B-A3B-NVFP4",
            0.015,
        ),
        ("openai--gpt-oss-120b", "fp4", "openai--gpt-oss-120b", 0),
        ("openai--gpt-oss-120b", "mxfp4", "openai--gpt-oss-120b", 0),
    ],
)
def test_another_precision_is_as_large_as_the_published_checkpoint(
    base: str, precision: str, published: str, tolerance: float
) -> None:
    made = with_precision(spec_of(base), precision)
    assert made.weight_bytes == pytest.approx(spec_of(published).weight_bytes, rel=tolerance)


def test_every_quantised_folder_is_understood() -> None:
    if not CONFIGS.is_dir():
        pytest.skip(f"{CONFIGS} is not here")
    quantised = 0
    for folder in sorted(path.name for path in CONFIGS.iterdir()):
        quant = quantization_of(*read(folder))
        rules = rules_from_config(quant, name=folder, base=BF16)
        assert bool(rules.groups) == bool(quant), folder
        quantised += bool(quant)
    assert quantised >= 50
