"""What one exported metric is: enough to make it, to draw it and to explain it.

`name` is what the code gives to Ray, which puts `ray_` before it. Names end in their unit, counters
in `_total` (https://prometheus.io/docs/practices/naming/). A histogram is exported as three series:
`_bucket` (with the label `le`), `_sum` and `_count`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from rayserve_par.errors import RefusedError

_PREFIX = "ray_"
# Prometheus gives the first two to what it scrapes, and `le` to buckets.
_TAKEN_LABELS = frozenset({"instance", "job", "le"})


class Kind(StrEnum):
    """How values of a metric are read: as they are, as a rate, or as a distribution."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of ours.

    `text` says what it is, `bad` what a value that needs somebody looks like, `act` what to do
    then; both are empty where the metric only informs. Raises RefusedError for a name or label
    that Prometheus would not take as it is.
    """

    name: str
    kind: Kind
    unit: str
    text: str
    labels: tuple[str, ...]
    bad: str = ""
    act: str = ""
    boundaries: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if (self.kind is Kind.COUNTER) is not self.name.endswith("_total"):
            raise RefusedError(f"metric {self.name}: counters, and only they, end in _total.")
        if (self.kind is Kind.HISTOGRAM) is not bool(self.boundaries):
            raise RefusedError(f"metric {self.name}: histograms, and only they, have boundaries.")
        taken = sorted(_TAKEN_LABELS & set(self.labels))
        if taken:
            raise RefusedError(f"metric {self.name}: Prometheus uses the labels {taken} itself.")
        if bool(self.bad) is not bool(self.act):
            raise RefusedError(f"metric {self.name}: a bad value and what to do belong together.")

    @property
    def exported(self) -> str:
        """The name that Prometheus sees."""
        return f"{_PREFIX}{self.name}"

    @property
    def series(self) -> tuple[str, ...]:
        """The names of its series."""
        if self.kind is not Kind.HISTOGRAM:
            return (self.exported,)
        return tuple(f"{self.exported}_{part}" for part in ("bucket", "sum", "count"))


def by_name(metrics: tuple[Metric, ...]) -> dict[str, Metric]:
    """The metrics by their names. Raises RefusedError where a name comes twice."""
    found: dict[str, Metric] = {}
    for metric in metrics:
        if metric.name in found:
            raise RefusedError(f"metric {metric.name} is there twice; give each its own name.")
        found[metric.name] = metric
    return found
