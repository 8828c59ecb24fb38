"""vLLM's metrics on Ray's endpoint, at little cost.

vLLM sets gauges and counters at each step and observes one time for each token of each request;
Ray takes each of these through its C++ core: with its C++ part 18% of the serving process of a
0.6B model on an H200 at 128 streams, when the histograms did. Here all is kept in Python, and
`export_metrics`, which is to be called every few seconds, hands it over. (Ray drops a gauge that
was not set for a while, so one that vLLM sets but once stays as well.)

A histogram's series NAME_bucket, NAME_sum and NAME_count are those that Ray's makes, so dashboards
and `histogram_quantile` do not tell the difference; Prometheus sees gauges.
"""

from __future__ import annotations

from typing import Any, Protocol

from vllm.v1.metrics.ray_wrappers import RayCounterWrapper, RayGaugeWrapper, RayPrometheusMetric

from rayserve_par.serving.bucket_counts import BucketCounts
from rayserve_par.serving.ray_metrics import HistogramSeries


class _Kept(Protocol):
    def export(self) -> None: ...


_living: list[_Kept] = []


class LatestGauge(RayGaugeWrapper):
    """A gauge that keeps its latest value."""

    _value: float | None = None

    def set(self, value: float) -> None:
        """Keep the value."""
        if self._value is None:
            _living.append(self)
        self._value = value

    def export(self) -> None:
        """Hand the value to Ray."""
        self.metric.set(self._value, tags=self._tags)


class SummedCounter(RayCounterWrapper):
    """A counter that keeps what was added since its last export."""

    _added: float | None = None

    def inc(self, value: float = 1.0) -> None:
        """Add."""
        if self._added is None:
            _living.append(self)
        self._added = (self._added or 0.0) + value

    def export(self) -> None:
        """Hand the sum to Ray."""
        if self._added:
            self.metric.inc(self._added, tags=self._tags)
        self._added = 0.0


class CountingHistogram(RayPrometheusMetric):
    """The interface of vLLM's `RayHistogramWrapper`; one made by `labels` counts for itself."""

    def __init__(
        self,
        name: str,
        documentation: str | None = "",
        labelnames: list[str] | None = None,
        buckets: list[float] | None = None,
    ) -> None:
        super().__init__()
        name = self._get_sanitized_opentelemetry_name(name)
        self._series = HistogramSeries(name, documentation or "", self._get_tag_keys(labelnames))
        # vLLM reads the keys of its labels from `metric`.
        self.metric = self._series.count
        self._counts = BucketCounts(buckets or ())

    def labels(self, *labels: Any, **named: Any) -> CountingHistogram:
        """One with these labels."""
        found: CountingHistogram = super().labels(*labels, **named)
        found._counts = BucketCounts(self._counts.bounds)
        _living.append(found)
        return found

    def observe(self, value: float) -> None:
        """Count one value."""
        self._counts.observe(value)

    def export(self) -> None:
        """Hand the counts to Ray."""
        self._series.set(self._counts, self._tags)


def export_metrics() -> None:
    """Hand over what every metric of this process has kept."""
    for metric in _living:
        metric.export()
