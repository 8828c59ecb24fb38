"""Total and active parameters of named models against the published figures."""

import json
from pathlib import Path
from typing import Any

import pytest
from published_parameters import PUBLISHED, Counts, Figure, Published

from rayserve_par.model import known_config, model_spec_from_config
from rayserve_par.model.component import Component
from rayserve_par.model.spec import ModelSpec

CONFIGS = Path(__file__).resolve().parents[4] / "shared" / "model_configs"
NAMED = {published.name: published for published in PUBLISHED}
OTHER_PRECISIONS = [(other, entry.name) for entry in PUBLISHED for other in entry.same_weights]


def config_of(name: str) -> dict[str, Any]:
    known = known_config(name)
    if known is not None:
        return known
    file = CONFIGS / name.replace("/", "--") / "config.json"
    if not file.is_file():
        pytest.skip(f"{file} is not here")
    config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return config


def spec_of(name: str) -> ModelSpec:
    return model_spec_from_config(config_of(name), name)


def mtp_parameters(spec: ModelSpec) -> int:
    return sum(matrix.parameters for layer in spec.mtp_layers for matrix in layer.matrices)


def counted_total(spec: ModelSpec, entry: Published) -> float:
    """Our parameters, counted as the publication counts them."""
    total: float = spec.parameters
    if entry.vision_not_in_config and Component.VISION not in spec.parameters_by_component:
        total += Figure(entry.vision_not_in_config).value
    if Counts.MTP_IN_TOTAL in entry.counts:
        total += mtp_parameters(spec)
    if Counts.VISION_OUT_OF_TOTAL in entry.counts:
        total -= spec.parameters_by_component.get(Component.VISION, 0)
    return total


def counted_active(spec: ModelSpec, entry: Published) -> int:
    """Our active parameters, counted as the publication counts them."""
    left_out = {
        Counts.VISION_OUT_OF_ACTIVE: Component.VISION,
        Counts.EMBEDDING_OUT_OF_ACTIVE: Component.EMBEDDING,
        Counts.HEAD_OUT_OF_ACTIVE: Component.HEAD,
    }
    parts = spec.active_parameters_by_component
    out = sum(parts.get(part, 0) for count, part in left_out.items() if count in entry.counts)
    return spec.active_parameters - out


def check(counted: float, text: str) -> None:
    figure = Figure(text)
    assert counted == pytest.approx(figure.value, abs=figure.tolerance), (
        f"{counted / 1e9:.4f}B against the published {text}: "
        f"{100 * (counted / figure.value - 1):+.2f}%, allowed {figure.tolerance / 1e9:.4g}B"
    )


def test_the_table_names_enough_models_and_sources() -> None:
    assert len(NAMED) == len(PUBLISHED) >= 34
    assert all(entry.source.startswith("https://") for entry in PUBLISHED)


@pytest.mark.parametrize("name", NAMED)
def test_total_as_published(name: str) -> None:
    entry = NAMED[name]
    check(counted_total(spec_of(name), entry), entry.total)


@pytest.mark.parametrize("name", [name for name, entry in NAMED.items() if entry.active])
def test_active_as_published(name: str) -> None:
    entry = NAMED[name]
    text = entry.active or ""
    counted: float = counted_active(spec_of(name), entry)
    if Counts.ACTIVE_CUT_OFF in entry.counts:
        counted = Figure(text).cut_off(counted)
    check(counted, text)


@pytest.mark.parametrize("name", [name for name, entry in NAMED.items() if entry.non_embedding])
def test_without_embedding_and_head_as_published(name: str) -> None:
    spec = spec_of(name)
    parts = spec.parameters_by_component
    ends = parts[Component.EMBEDDING] + parts.get(Component.HEAD, 0)
    check(spec.parameters - ends, NAMED[name].non_embedding or "")


@pytest.mark.parametrize("name", [name for name, entry in NAMED.items() if not entry.active])
def test_all_parameters_of_a_dense_model_are_active(name: str) -> None:
    spec = spec_of(name)
    if spec.is_moe:
        assert spec.active_parameters < spec.parameters
    else:
        assert spec.active_parameters == spec.parameters


@pytest.mark.parametrize(("other", "name"), OTHER_PRECISIONS)
def test_precision_does_not_change_the_parameters(other: str, name: str) -> None:
    # Some publish the vision tower's config with one precision only.
    def of_the_text_model(parts: dict[Component, int]) -> dict[Component, int]:
        return {part: count for part, count in parts.items() if part is not Component.VISION}

    quantised, original = spec_of(other), spec_of(name)
    assert of_the_text_model(quantised.parameters_by_component) == of_the_text_model(
        original.parameters_by_component
    )


@pytest.mark.parametrize(
    ("text", "value", "half_unit"),
    [
        ("30.5B", 30.5e9, 0.05e9),
        ("37B", 37e9, 0.5e9),
        ("1.04T", 1.04e12, 0.005e12),
        ("134.515008M", 134_515_008, 0.5),
    ],
)
def test_a_printed_figure_and_what_its_rounding_hides(
    text: str, value: float, half_unit: float
) -> None:
    figure = Figure(text)
    assert figure.value == pytest.approx(value)
    assert figure.half_unit == pytest.approx(half_unit)
    assert figure.tolerance == pytest.approx(max(0.01 * value, half_unit))
    assert figure.cut_off(value + 1.9 * half_unit) == pytest.approx(value)
    assert figure.cut_off(value + 2.1 * half_unit) == pytest.approx(value + 2 * half_unit)
