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


class Histogram:
    """The series NAME_bucket, NAME_sum and NAME_count of Ray's, handed over by `export`."""

    def __init__(
        self, name: str, description: str, tag_keys: tuple[str, ...], boundaries: Sequence[float]
    ) -> None:
        self._counts = BucketCounts(boundaries)
        self._bucket = Gauge(f"{name}_bucket", description, (*tag_keys, "le"))
        self._sum = Gauge(f"{name}_sum", description, tag_keys)
        self._count = Gauge(f"{name}_count", description, tag_keys)

    def set_default_tags(self, tags: dict[str, str]) -> None:
        """Set labels for all that is observed."""
        for gauge in (self._bucket, self._sum, self._count):
            gauge.set_default_tags(tags)

    def observe(self, value: float) -> None:
        """Count one value."""
        self._counts.observe(value)

    def export(self) -> None:
        """Hand the counts to Ray."""
        for le, count in self._counts.cumulative():
            self._bucket.set(count, tags={"le": le})
        self._sum.set(self._counts.total)
        self._count.set(self._counts.count)


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
