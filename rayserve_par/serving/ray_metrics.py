"""Makes Ray's metric objects from the registry; Ray exports them on each node's endpoint.

Ray drops a gauge that was not set since its last report, so gauges are to be set again at least
every `GAUGE_PERIOD_SECONDS`. Counters and histograms stay until their process ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.util.metrics import Counter, Gauge, Histogram

from rayserve_par.serving.metric_registry import Kind, Metric

GAUGE_PERIOD_SECONDS = 5.0


def ray_metrics(
    metrics: Mapping[str, Metric], labels: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Make one Ray metric for each of `metrics`, by name; `labels` are set on all of them."""
    return {name: _ray_metric(metric, labels or {}) for name, metric in metrics.items()}


def _ray_metric(metric: Metric, labels: Mapping[str, str]) -> Any:
    known = {"description": metric.text, "tag_keys": metric.labels}
    if metric.kind is Kind.HISTOGRAM:
        made: Any = Histogram(metric.name, boundaries=list(metric.boundaries), **known)
    elif metric.kind is Kind.COUNTER:
        made = Counter(metric.name, **known)
    else:
        made = Gauge(metric.name, **known)
    if labels:
        made.set_default_tags(dict(labels))
    return made
