"""Stands in for Ray's metric objects and remembers what they were told."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from rayserve_par.serving.metric_registry import Kind, Metric

Key = tuple[str, frozenset[tuple[str, str]]]


class Recorder:
    """One metric. Refuses labels that it lacks and what its kind cannot do, as Ray does."""

    def __init__(self, metric: Metric, labels: Mapping[str, str], told: dict[Key, float]) -> None:
        self._metric = metric
        self._labels = dict(labels)
        self._told = told

    def _key(self, tags: Mapping[str, str] | None) -> Key:
        labels = {**self._labels, **(tags or {})}
        assert set(labels) == set(self._metric.labels), self._metric.name
        assert all(isinstance(value, str) for value in labels.values()), labels
        return (self._metric.name.removeprefix("rayserve_par_"), frozenset(labels.items()))

    def set(self, value: float, tags: Mapping[str, str] | None = None) -> None:
        assert self._metric.kind is Kind.GAUGE, self._metric.name
        self._told[self._key(tags)] = value

    def inc(self, value: float = 1, tags: Mapping[str, str] | None = None) -> None:
        assert self._metric.kind is Kind.COUNTER, self._metric.name
        assert value > 0
        self._told[self._key(tags)] += value

    def observe(self, value: float, tags: Mapping[str, str] | None = None) -> None:
        assert self._metric.kind is Kind.HISTOGRAM, self._metric.name
        self._told[self._key(tags)] += value

    def export(self) -> None:
        assert self._metric.kind is Kind.HISTOGRAM, self._metric.name


class Told:
    """What all metrics of a registry were told."""

    def __init__(self) -> None:
        self.values: dict[Key, float] = defaultdict(float)

    def make(
        self, metrics: Mapping[str, Metric], labels: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        return {name: Recorder(one, labels or {}, self.values) for name, one in metrics.items()}

    def of(self, name: str, **labels: str) -> float | None:
        """The value whose labels include `labels`; None where nothing was told."""
        found = [
            value
            for (told, has), value in self.values.items()
            if told == name and set(labels.items()) <= has
        ]
        assert len(found) <= 1, f"{name}{labels}: {len(found)} series"
        return found[0] if found else None
