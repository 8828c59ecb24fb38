"""Counts by bucket agree with prometheus-client's histogram."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram

from rayserve_par.serving.bucket_counts import BucketCounts

BOUNDS = (0.01, 0.1, 1.0, 10.0)


def of_prometheus(values: list[float]) -> dict[str, float]:
    registry = CollectorRegistry()
    histogram = Histogram("x", "x", buckets=BOUNDS, registry=registry)
    for value in values:
        histogram.observe(value)
    (family,) = registry.collect()
    return {one.labels["le"]: one.value for one in family.samples if one.name == "x_bucket"}


@given(st.lists(st.one_of(st.floats(0, 100), st.sampled_from(BOUNDS))))
def test_buckets_are_prometheus_s(values: list[float]) -> None:
    counts = BucketCounts(BOUNDS)
    for value in values:
        counts.observe(value)
    assert dict(counts.cumulative()) == of_prometheus(values)
    assert counts.count == len(values)
    assert counts.total == pytest.approx(sum(values))


def test_bounds_are_sorted_and_may_be_none() -> None:
    assert BucketCounts((2, 1)).bounds == (1.0, 2.0)
    counts = BucketCounts(())
    counts.observe(3.0)
    assert dict(counts.cumulative()) == {"+Inf": 1}
