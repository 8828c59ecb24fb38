"""Makes Ray's metric objects from the registry; Ray exports them on each node's endpoint.

Ray drops a gauge that was not set since its last report, so gauges are to be set again at least
every `GAUGE_PERIOD_SECONDS`. Counters stay until their process ends. A histogram keeps its counts
here and is to be exported as often as gauges: an observation through Ray is a call into its C++
core, on the way of each request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ray.util.metrics import Counter, Gauge

from rayserve_par.serving.bucket_counts import BucketCounts
from rayserve_par.serving.metric_registry import Kind, Metric

GAUGE_PERIOD_SECONDS = 5.0


class HistogramSeries:
    """The series NAME_bucket, NAME_sum and NAME_count that Ray's histogram makes, as gauges."""

    def __init__(self, name: str, description: str, tag_keys: Sequence[str]) -> None:
        keys = tuple(tag_keys)
        self.bucket = Gauge(f"{name}_bucket", description, (*keys, "le"))
        self.sum = Gauge(f"{name}_sum", description, keys)
        self.count = Gauge(f"{name}_count", description, keys)

    def set(self, counts: BucketCounts, tags: Mapping[str, str] | None = None) -> None:
        """Hand the counts to Ray; `tags` go before default ones."""
        labels = dict(tags or {})
        for le, count in counts.cumulative():
            self.bucket.set(count, tags={**labels, "le": le})
        self.sum.set(counts.total, tags=labels)
        self.count.set(counts.count, tags=labels)


class Histogram:
    """Counts in the process; handed over by `export`."""

    def __init__(
        self, name: str, description: str, tag_keys: Sequence[str], boundaries: Sequence[float]
    ) -> None:
        self.series = HistogramSeries(name, description, tag_keys)
        self._counts = BucketCounts(boundaries)

    def set_default_tags(self, tags: dict[str, str]) -> None:
        """Set labels for all that is observed."""
        for gauge in (self.series.bucket, self.series.sum, self.series.count):
            gauge.set_default_tags(tags)

    def observe(self, value: float) -> None:
        """Count one value."""
        self._counts.observe(value)

    def export(self) -> None:
        """Hand the counts to Ray."""
        self.series.set(self._counts)


def ray_metrics(
    metrics: Mapping[str, Metric], labels: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Make one metric for each of `metrics`, by name; `labels` are set on all of them."""
    return {name: _ray_metric(metric, labels or {}) for name, metric in metrics.items()}


def _ray_metric(metric: Metric, labels: Mapping[str, str]) -> Any:
    if metric.kind is Kind.HISTOGRAM:
        made: Any = Histogram(metric.name, metric.text, metric.labels, metric.boundaries)
    elif metric.kind is Kind.COUNTER:
        made = Counter(metric.name, metric.text, metric.labels)
    else:
        made = Gauge(metric.name, metric.text, metric.labels)
    if labels:
        made.set_default_tags(dict(labels))
    return made
