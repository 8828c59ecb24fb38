"""The published models beside the repository, for tests that ask whether layouts are legal."""

import json
from functools import cache
from pathlib import Path

import pytest

from rayserve_par.model import ModelSpec, model_spec_from_config

FOLDER = Path(__file__).resolve().parents[4] / "shared" / "model_configs"


def published_names() -> list[str]:
    """Every OWNER--MODEL that is there; empty without the folder."""
    return sorted(file.parent.name for file in FOLDER.glob("*/config.json"))


@cache
def _read(name: str) -> ModelSpec:
    file = FOLDER / name / "config.json"
    return model_spec_from_config(json.loads(file.read_text(encoding="utf-8")), name)


def published(name: str) -> ModelSpec:
    """The model OWNER--MODEL; skips the test where it is not there."""
    if not (FOLDER / name / "config.json").is_file():
        pytest.skip(f"{FOLDER / name} is not here")
    return _read(name)
