"""Metrics of the registry are well formed, and Ray gets exactly those."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from rayserve_par.errors import RefusedError
from rayserve_par.serving.metric_registry import (
    CONTROLLER_LABELS,
    CONTROLLER_METRICS,
    FOREIGN_METRICS,
    INSTANCE_LABELS,
    INSTANCE_METRICS,
    REPLANNER_METRICS,
    Kind,
    Metric,
)
from rayserve_par.serving.metric_registry.metric import by_name

UNITS = ("_seconds", "_tokens", "_gpus", "_total", "_info", "_per_second", "_per_hour")
WITHOUT_UNIT_IN_NAME = {"instances", "requests", "problems", "0 or 1", "ratio", "GPUs"}


OF_CONTROLLERS = {**CONTROLLER_METRICS, **REPLANNER_METRICS}


@pytest.mark.parametrize("metric", [*INSTANCE_METRICS.values(), *OF_CONTROLLERS.values()])
def test_a_metric_says_what_it_is(metric: Metric) -> None:
    assert metric.name.startswith("rayserve_par_")
    assert metric.text.endswith(".")
    assert metric.name.endswith(UNITS) or metric.unit in WITHOUT_UNIT_IN_NAME, metric.unit
    assert list(metric.boundaries) == sorted(set(metric.boundaries))


def test_each_exporter_has_its_labels_and_no_metric_of_the_other() -> None:
    assert all(m.labels[:3] == INSTANCE_LABELS for m in INSTANCE_METRICS.values())
    assert all(m.labels[:2] == CONTROLLER_LABELS for m in OF_CONTROLLERS.values())
    assert not INSTANCE_METRICS.keys() & OF_CONTROLLERS.keys()
    assert not REPLANNER_METRICS.keys() & CONTROLLER_METRICS.keys()
    assert not any(name.startswith("ray_rayserve_par_") for name in FOREIGN_METRICS)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"name": "a_seconds", "kind": Kind.COUNTER}, "end in _total"),
        ({"name": "a_total", "kind": Kind.GAUGE}, "end in _total"),
        ({"kind": Kind.HISTOGRAM}, "boundaries"),
        ({"boundaries": (1.0,)}, "boundaries"),
        ({"labels": ("model", "instance")}, "instance"),
        ({"labels": ("le",)}, "le"),
        ({"bad": "above 1"}, "belong together"),
    ],
)
def test_a_malformed_metric_is_refused(changed: dict[str, Any], words: str) -> None:
    sound = {"name": "a", "kind": Kind.GAUGE, "unit": "1", "text": "A.", "labels": ("model",)}
    assert Metric(**sound).exported == "ray_a"  # type: ignore[arg-type]
    with pytest.raises(RefusedError, match=words):
        Metric(**{**sound, **changed})


def test_a_name_twice_is_refused() -> None:
    metric = Metric("a", Kind.GAUGE, "1", "A.", ("model",))
    with pytest.raises(RefusedError, match="twice"):
        by_name((metric, metric))


def test_ray_gets_every_metric_with_its_kind_and_labels() -> None:
    pytest.importorskip("ray")
    from ray.util import metrics as ray_kinds

    made = importlib.import_module("rayserve_par.serving.ray_metrics").ray_metrics
    kinds = {Kind.GAUGE: ray_kinds.Gauge, Kind.COUNTER: ray_kinds.Counter}
    labels = {"model": "m", "instance_id": "i", "node": "n"}
    for registry, defaults in ((INSTANCE_METRICS, labels), (OF_CONTROLLERS, None)):
        for name, found in made(registry, defaults).items():
            metric, one = registry[name], found
            if metric.kind is Kind.HISTOGRAM:
                gauges = (one.series.sum, one.series.count, one.series.bucket)
                names = [f"{name}_sum", f"{name}_count", f"{name}_bucket"]
                assert [gauge.info["name"] for gauge in gauges] == names
                assert one.series.bucket.info["tag_keys"] == (*metric.labels, "le")
                one = found.series.sum
            else:
                assert type(one) is kinds[metric.kind]
                assert one.info["name"] == name
            assert one.info["tag_keys"] == metric.labels
            assert one.info["default_tags"] == (defaults or {})


def test_a_histogram_hands_over_its_series(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    from ray.util.metrics import Gauge

    handed: list[tuple[str, float, dict[str, str]]] = []

    def set_(gauge: Gauge, value: float, tags: dict[str, str] | None = None) -> None:
        handed.append((gauge.info["name"], value, tags or {}))

    monkeypatch.setattr(Gauge, "set", set_)
    module = importlib.import_module("rayserve_par.serving.ray_metrics")
    one = module.Histogram("a_seconds", "A.", ("model",), (1.0, 2.0))
    for value in (0.5, 1.5, 1.5, 9.0):
        one.observe(value)
    assert handed == []
    one.export()
    assert handed == [
        ("a_seconds_bucket", 1, {"le": "1.0"}),
        ("a_seconds_bucket", 3, {"le": "2.0"}),
        ("a_seconds_bucket", 4, {"le": "+Inf"}),
        ("a_seconds_sum", 12.5, {}),
        ("a_seconds_count", 4, {}),
    ]
