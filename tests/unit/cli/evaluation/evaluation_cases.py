"""Folders and rows for the tests of `rayserve-par evaluate`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rayserve_par.model import known_config

SHARED = Path(__file__).resolve().parents[5] / "shared"

SERVED = {
    "id": "a",
    "model": "meta-llama/Llama-3.1-8B-Instruct",
    "gpu": "h100_sxm",
    "engine": "vllm",
    "precision": "bf16",
    "isl": 1024,
    "osl": 512,
    "concurrency": 8,
    "gpus": 2,
    "tp": 2,
    "attention_dp": 1,
    "moe_tp": 1,
    "moe_ep": 1,
    "ttft_ms": 40.0,
    "tpot_ms": 5.0,
}
ENGINE = {
    "name": "llama8b",
    "model": "meta-llama/Meta-Llama-3.1-8B",
    "precision": "bf16",
    "gpu": "H200",
    "gpu_total_mib": 143771,
    "engine": "vllm 0.25.0",
    "gpu_memory_utilization": 0.92,
    "max_model_len": 8192,
    "max_num_batched_tokens": 8192,
    "tp": 1,
    "pp": 1,
    "ep": False,
    "weights_gib_per_gpu": 15.0,
    "kv_gib_per_gpu": 111.61,
    "kv_tokens": 914304,
    "cuda_graph_gib": 0.41,
    "prefill_s_by_prompt_tokens": {"512": 0.032, "7168": 0.188},
    "tpot_s_by_batch_at_1024_prompt": {"1": 0.005, "128": 0.0108},
}
MEMORY = {
    "model": "meta-llama/Llama-3.1-8B-Instruct",
    "gpu": "H100",
    "gpu_total_gib": 79.18,
    "engine": "vLLM 0.11 V1",
    "tp": 1,
    "util": 0.9,
    "max_model_len": 16000,
    "weights_gib": 14.99,
    "activation_peak_gib": 4.76,
    "kv_gib": 51.38,
}
LAYOUT = {
    "model": "deepseek-ai/DeepSeek-V3.1",
    "precision": "fp8",
    "hardware": "H200",
    "gpu_mem_gib": 141,
    "gpus_per_node": 8,
    "nodes": 1,
    "tp": 8,
    "pp": 1,
    "ep": 8,
    "dp": 1,
    "goal": "default",
    "note": "TP8 on 8 GPUs",
    "layout_stated": True,
    "dp_kind": None,
    "gpus_used": 8,
}


def known(name: str, **changes: Any) -> dict[str, Any]:
    """A shipped config with changes; None takes a field out."""
    found = {**(known_config(name) or {}), **changes}
    return {key: value for key, value in found.items() if value is not None}


def write_configs(folder: Path, configs: Mapping[str, Any]) -> Path:
    """A folder of configs by folder name."""
    for name, config in configs.items():
        path = folder / name / "config.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(config), encoding="utf-8")
    folder.mkdir(exist_ok=True)
    return folder


def write_rows(folder: Path, **files: Sequence[Mapping[str, Any] | str]) -> Path:
    """A folder of evidence; a row that is text is written as it is."""
    folder.mkdir(exist_ok=True)
    for name, rows in files.items():
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder
