"""From what a user calls a model to its geometry and to what vLLM loads.

In this order: a built-in name, a folder (or a config.json) on this machine, a hub id. A hub id's
geometry comes from the configs shipped with the package, the Hugging Face cache, or the hub
(token from HF_TOKEN); its weights are downloaded by vLLM on the node that needs them.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rayserve_par.errors import RefusedError
from rayserve_par.model.hf_config import model_spec_from_config
from rayserve_par.model.known import known_config, known_names
from rayserve_par.model.quantisation import quantization_of
from rayserve_par.model.safetensors_header import corrected_spec
from rayserve_par.model.spec import ModelSpec
from rayserve_par.serving.model_store.builtin import (
    BUILTIN_MODELS,
    builtin_folder,
    ensure_builtin,
    is_prepared,
)
from rayserve_par.serving.model_store.headers import read_tensors

QUANTIZATION_FILE = "hf_quant_config.json"


@dataclass(frozen=True, slots=True)
class Model:
    """A located model: its geometry, and the folder or hub id that vLLM loads."""

    spec: ModelSpec
    load_path: str


def locate_model(name: str, *, prepare: bool = True) -> Model:
    """Find the model that the user calls `name`.

    With `prepare`, a built-in model is made if it is not there; without, nothing is written and a
    built-in model that was never prepared is known by its shipped geometry.

    Raises:
        RefusedError: there is no such model; the message lists what was looked at.
    """
    if name in BUILTIN_MODELS:
        return _builtin(name, prepare=prepare)
    path = Path(name).expanduser()
    if path.is_file() and path.name == "config.json":
        path = path.parent
    if path.is_dir():
        return _folder(name, path)
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise RefusedError(_no_such_model(name))
    config = _hub_config(name)
    quantization = None if quantization_of(config) else _hub_quantization(name)
    return Model(model_spec_from_config(config, name, quantization=quantization), name)


def _builtin(name: str, *, prepare: bool) -> Model:
    if prepare or is_prepared(name):
        folder = ensure_builtin(name)
        return Model(_spec_of_folder(folder, name), str(folder))
    config = BUILTIN_MODELS[name].config
    return Model(model_spec_from_config(config, name), str(builtin_folder(name)))


def _folder(name: str, path: Path) -> Model:
    if not (path / "config.json").is_file():
        raise RefusedError(
            f"The folder {path} holds no config.json, so it is not a Hugging Face model. "
            "Give the folder that holds config.json and the weights."
        )
    spec = _spec_of_folder(path, name.rstrip("/").rsplit("/", 1)[-1])
    return Model(spec, str(path.resolve()))


def _spec_of_folder(folder: Path, name: str) -> ModelSpec:
    """From the config, the quantisation beside it, and the weights' headers, which win."""
    config, beside = _read_config(folder), folder / QUANTIZATION_FILE
    quantization = quantization_of(config, _read_json(beside) if beside.is_file() else None)
    spec = model_spec_from_config(config, name, quantization=quantization)
    tensors = read_tensors(folder)
    return corrected_spec(spec, tensors) if tensors else spec


def _read_config(folder: Path) -> dict[str, Any]:
    return _read_json(folder / "config.json")


def _read_json(file: Path) -> dict[str, Any]:
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise RefusedError(f"{file} is not valid JSON: {error}") from error
    if not isinstance(config, dict):
        raise RefusedError(
            f"{file.name} of {file.parent} is not an object; it is JSON of another kind "
            f"({type(config).__name__}). Give the file that came with the model."
        )
    return config


def _hub_config(name: str) -> Mapping[str, Any]:
    known = known_config(name)
    if known is not None:
        return known
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return _read_config(Path(hf_hub_download(name, "config.json")).parent)
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise RefusedError(f"{_no_such_model(name)}\nThe hub said: {reason}") from error


def _hub_quantization(name: str) -> Mapping[str, Any] | None:
    """What older modelopt checkpoints say beside a config without quantisation."""
    if known_config(name) is not None:
        return None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return _read_json(Path(hf_hub_download(name, QUANTIZATION_FILE)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError):
        return None


def _no_such_model(name: str) -> str:
    names = [*BUILTIN_MODELS, *known_names()]
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    return (
        f"No model {name!r}: it is no built-in name ({', '.join(BUILTIN_MODELS)}), no folder with "
        f"a config.json on this machine, and no hub id that could be read.{hint}"
    )
