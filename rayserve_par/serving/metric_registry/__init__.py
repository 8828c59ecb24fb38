"""The one list of every metric: ours by who exports it, and those of others that we use.

What an instance or a controller exports is made from here, docs/metrics.md is written from here,
and dashboards and rules may name nothing else.
"""

from rayserve_par.serving.metric_registry.controller import CONTROLLER_LABELS, CONTROLLER_METRICS
from rayserve_par.serving.metric_registry.foreign import FOREIGN_METRICS
from rayserve_par.serving.metric_registry.instance import INSTANCE_LABELS, INSTANCE_METRICS
from rayserve_par.serving.metric_registry.metric import Kind, Metric
from rayserve_par.serving.metric_registry.replanner import REPLANNER_METRICS

__all__ = [
    "CONTROLLER_LABELS",
    "CONTROLLER_METRICS",
    "FOREIGN_METRICS",
    "INSTANCE_LABELS",
    "INSTANCE_METRICS",
    "REPLANNER_METRICS",
    "Kind",
    "Metric",
]
