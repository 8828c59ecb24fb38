"""The published configs beside the repository, and one reader's view of them."""

import json
from pathlib import Path
from typing import Any

import pytest

from rayserve_par.model.families import READERS
from rayserve_par.model.families.family import LayerShape, Skeleton
from rayserve_par.model.matrix import Matrix

FOLDER = Path(__file__).resolve().parents[4] / "shared" / "model_configs"


def published_config(name: str) -> dict[str, Any]:
    """The config of OWNER--MODEL; skips the test where it is not there."""
    file = FOLDER / name / "config.json"
    if not file.is_file():
        pytest.skip(f"{file} is not here")
    config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return config


def skeleton(config: dict[str, Any]) -> Skeleton:
    """What the reader of the config's own type finds."""
    text = config.get("text_config", config)
    return READERS[config["model_type"]](text, "a model")


def parameters(found: Skeleton | tuple[LayerShape, ...], hidden_size: int) -> int:
    """Parameters of all layers, or of some, without embedding and head."""
    layers = found.layers if isinstance(found, Skeleton) else found
    return sum(total(layer.matrices(hidden_size)) for layer in layers)


def total(matrices: tuple[Matrix, ...]) -> int:
    """Parameters of some matrices."""
    return sum(matrix.parameters for matrix in matrices)


def named(layer: LayerShape, name: str, hidden_size: int) -> Matrix:
    """The one matrix of that name."""
    (found,) = [m for m in layer.matrices(hidden_size) if m.name == name]
    return found


def mixer_kinds(found: Skeleton) -> list[str | None]:
    """The kind of every layer's mixer."""
    return [layer.mixer.kind if layer.mixer else None for layer in found.layers]
