"""Models for the tests of sizing: those with a config in the package, and those beside the repo."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from rayserve_par.model import ModelSpec, known_config, known_names, model_spec_from_config
from rayserve_par.model.quantisation import quantization_of

SHARED = Path(__file__).resolve().parents[4] / "shared"
MODELS = {name: model_spec_from_config(known_config(name) or {}, name) for name in known_names()}
SMOL = MODELS["HuggingFaceTB/SmolLM2-135M-Instruct"]
LLAMA_8B = MODELS["meta-llama/Llama-3.1-8B-Instruct"]
LLAMA_70B = MODELS["nvidia/Llama-3.3-70B-Instruct-FP8"]
LLAMA_405B = MODELS["meta-llama/Llama-3.1-405B-Instruct"]
QWEN = MODELS["Qwen/Qwen3-235B-A22B-FP8"]
DEEPSEEK = MODELS["deepseek-ai/DeepSeek-V3.1"]
GPT_OSS = MODELS["openai/gpt-oss-120b"]


@cache
def shared_model(name: str) -> ModelSpec:
    """The model of this name; skips the test where the configs are not beside the repo."""
    if name in MODELS:
        return MODELS[name]
    organisation, _, short = name.partition("/")
    folders = SHARED / "model_configs"
    for candidate in (short, short.removesuffix("-Instruct"), f"Meta-{short}"):
        folder = folders / f"{organisation}--{candidate}"
        if folder.exists():
            quant = folder / "hf_quant_config.json"
            found: dict[str, Any] | None = json.loads(quant.read_text()) if quant.exists() else None
            config = json.loads((folder / "config.json").read_text())
            return model_spec_from_config(config, name, quantization=quantization_of(config, found))
    pytest.skip(f"{folders} has no config of {name}")


def evidence(name: str) -> list[dict[str, Any]]:
    """Rows of a file of measurements; none where the folder is not beside the repo."""
    file = SHARED / "evidence" / name
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text().splitlines()]


def hybrid(**changes: Any) -> ModelSpec:
    """Gated delta nets and attention 3:1, of the sizes of Qwen3.5-27B."""
    config = {
        "model_type": "qwen3_5_text",
        "num_hidden_layers": 64,
        "hidden_size": 5120,
        "intermediate_size": 17408,
        "num_attention_heads": 24,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "linear_num_key_heads": 16,
        "linear_num_value_heads": 48,
        "linear_key_head_dim": 128,
        "linear_value_head_dim": 128,
        "linear_conv_kernel_dim": 4,
        "mamba_ssm_dtype": "float32",
        "layer_types": (["linear_attention"] * 3 + ["full_attention"]) * 16,
        "vocab_size": 248320,
        "max_position_embeddings": 262144,
        "tie_word_embeddings": False,
    }
    return model_spec_from_config({**config, **changes}, "hybrid")


def windowed(window_layers: int, full_layers: int, window: int = 1024) -> ModelSpec:
    """Sliding windows and full attention with alike heads (gemma-3's kind)."""
    kinds = ["sliding_attention"] * window_layers + ["full_attention"] * full_layers
    return model_spec_from_config(
        {
            "model_type": "gemma3_text",
            "num_hidden_layers": len(kinds),
            "hidden_size": 2560,
            "intermediate_size": 10240,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "head_dim": 256,
            "sliding_window": window,
            "layer_types": kinds,
            "vocab_size": 262144,
            "max_position_embeddings": 131072,
        },
        "windowed",
    )
