"""What vLLM tells its metrics, and what Ray is handed."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("vllm", reason="the metrics are vLLM's")

from rayserve_par.serving.vllm_bridge import ray_exports
from rayserve_par.serving.vllm_bridge.ray_exports import (
    CountingHistogram,
    LatestGauge,
    SummedCounter,
    export_metrics,
)


class Handed:
    """In place of Ray's metric: each call it gets."""

    def __init__(self) -> None:
        self._tag_keys = ("model", "ReplicaId")
        self.calls: list[tuple[str, float, dict[str, str]]] = []

    def set(self, value: float, tags: dict[str, str]) -> None:
        self.calls.append(("set", value, tags))

    def inc(self, value: float, tags: dict[str, str]) -> None:
        self.calls.append(("inc", value, tags))


@pytest.fixture(autouse=True)
def _none_living(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_exports, "_living", [])


def _labelled(kind: type[Any], *models: str) -> tuple[Handed, list[Any]]:
    whole: Any = kind("vllm:some", "text", ["model"])
    whole.metric = handed = Handed()
    return handed, [whole.labels(model=model) for model in models]


def _tags(model: str) -> dict[str, str]:
    return {"model": model, "ReplicaId": ""}


def test_a_gauge_hands_over_its_latest_value_again_and_again() -> None:
    handed, (a, b) = _labelled(LatestGauge, "a", "b")
    for value in (3, 1, 2):
        a.set(value)
    assert handed.calls == []
    export_metrics()
    b.set(7)
    export_metrics()
    assert handed.calls == [
        ("set", 2, _tags("a")),
        ("set", 2, _tags("a")),
        ("set", 7, _tags("b")),
    ]


def test_a_counter_hands_over_what_was_added_since() -> None:
    handed, (a, b) = _labelled(SummedCounter, "a", "b")
    a.inc()
    a.inc(4)
    b.inc(0)
    export_metrics()
    export_metrics()
    b.inc(2)
    a.inc(1)
    export_metrics()
    assert handed.calls == [("inc", 5, _tags("a")), ("inc", 1, _tags("a")), ("inc", 2, _tags("b"))]


def test_a_histogram_hands_over_its_series() -> None:
    whole: Any = CountingHistogram("vllm:some_seconds", "text", ["model"], [1.0, 2.0])
    whole.metric = count = whole._series.count = Handed()
    whole._series.bucket = bucket = Handed()
    whole._series.sum = total = Handed()
    one = whole.labels(model="a")
    for value in (0.5, 1.5, 9.0):
        one.observe(value)
    export_metrics()
    assert [(value, tags["le"]) for _, value, tags in bucket.calls] == [
        (1, "1.0"),
        (2, "2.0"),
        (3, "+Inf"),
    ]
    assert [value for _, value, _ in total.calls] == [11.0]
    assert [value for _, value, _ in count.calls] == [3]
