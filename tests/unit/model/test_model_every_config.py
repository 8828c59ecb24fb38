"""Every published config is read, and comes to the size that its name says."""

import json
import re
from pathlib import Path

import pytest
from shared_configs import FOLDER, published_config

from rayserve_par.model.component import Component
from rayserve_par.model.hf_config import model_spec_from_config
from rayserve_par.model.quantisation import quantization_of
from rayserve_par.model.spec import ModelSpec

NAMES = sorted(path.parent.name for path in FOLDER.glob("*/config.json"))
# "-30B-A3B", "-70B", "-0.6B"; not "8x7B" (experts share attention), "17B-16E" (17B are active).
TOTAL = re.compile(r"-(\d+(?:\.\d+)?)B(?:-A(\d+(?:\.\d+)?)B)?(?!-\d+E)(?=-|$)")

OUTSIDE = (Component.EMBEDDING, Component.HEAD, Component.VISION)


def spec_of(name: str) -> ModelSpec:
    config = published_config(name)
    beside: Path = FOLDER / name / "hf_quant_config.json"
    quant = json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else None
    return model_spec_from_config(config, name, quantization=quantization_of(config, quant))


def test_the_folder_holds_ninety_configs() -> None:
    if not NAMES:
        pytest.skip(f"{FOLDER} is not here")
    assert len(NAMES) >= 90


@pytest.mark.parametrize("name", NAMES)
def test_read(name: str) -> None:
    spec = spec_of(name)
    assert 0 < spec.active_parameters <= spec.parameters
    assert 3.9 < spec.bits_per_parameter <= 16.1
    assert spec.kv_bytes_per_token > 0
    assert sum(count for _, count in spec.layer_counts) == spec.num_layers


@pytest.mark.parametrize("name", [name for name in NAMES if TOTAL.search(name)])
def test_as_large_as_its_name_says(name: str) -> None:
    """Without the vision tower, within 7% (31.6B are called 30B) or 0.7B (7.6B are called 7B)."""
    spec, found = spec_of(name), TOTAL.search(name)
    assert found is not None
    said = float(found[1])
    text = spec.parameters - spec.parameters_by_component.get(Component.VISION, 0)
    assert text / 1e9 == pytest.approx(said, rel=0.07, abs=0.7 if said >= 2 else 0.05)


@pytest.mark.parametrize("name", [n for n in NAMES if (found := TOTAL.search(n)) and found[2]])
def test_as_active_as_its_name_says(name: str) -> None:
    """The name rounds, and may leave out the embedding, the head and the vision tower."""
    spec, found = spec_of(name), TOTAL.search(name)
    assert found is not None
    parts = spec.active_parameters_by_component
    beside = sum(parts.get(part, 0) for part in OUTSIDE)
    active, said = spec.active_parameters / 1e9, float(found[2])
    assert (active - beside / 1e9) * 0.93 - 0.5 <= said <= active * 1.07 + 0.5
