"""Memory over time, by class of process, and whether it grows.

For one class: m(t) = sum of the resident bytes (RSS) of its processes at time t. Its slope is
Theil-Sen's: the median of (m(b) - m(a)) / (b - a) over all pairs of samples, in MiB per hour, with
the interval of 95% that scipy gives for it. Samples of the warm-up are left out: the first
`WARM_UP_SHARE` of the time. Left out is that neighbouring samples depend on each other, which makes
the interval narrower than it should be.
A class grows too much if the lower end of its interval is above the limit. Runs shorter than
`JUDGED_FROM_MINUTES` are not judged: in the first minutes every heap still grows to its size.
Source: P. K. Sen, Estimates of the regression coefficient based on Kendall's tau, JASA 63 (1968).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.stats import theilslopes

WARM_UP_SHARE = 1 / 3
JUDGED_FROM_MINUTES = 30.0
# Beyond it a process of some GiB would double within a month.
LIMIT_MIB_PER_HOUR = 4.0
_MIB = 2**20
_LEAST_SAMPLES = 8
_CLASSES = (
    ("ray::ServeReplica", "replica"),
    ("VLLM::EngineCore", "engine"),
    ("VLLM::Worker", "rank"),
    ("ray::ServeController", "controller"),
    ("ray::HAProxyManager", "HAProxy manager"),
    ("ray::ProxyActor", "ProxyActor"),
    ("gcs_server", "GCS"),
    ("raylet", "raylet"),
    ("haproxy", "HAProxy"),
)


def process_class(name: str, command: Sequence[str]) -> str | None:
    """The class of a process by its name and command line; None for what is not watched."""
    title = command[0] if command else name
    for mark, found in _CLASSES:
        if title.startswith(mark) or name.startswith(mark):
            return found
    program = title.rsplit("/", 1)[-1]
    return next((found for mark, found in _CLASSES if program == mark), None)


@dataclass(frozen=True, slots=True)
class Sample:
    """Resident bytes and number of processes by class at one time."""

    seconds: float
    rss_bytes: Mapping[str, int]
    processes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Growth:
    """How the memory of one class of processes changed; the interval is [low, high]."""

    name: str
    processes: int
    first_mib: float
    last_mib: float
    mib_per_hour: float
    low: float
    high: float

    @property
    def too_much(self) -> bool:
        """Whether it certainly grows faster than the limit."""
        return self.low > LIMIT_MIB_PER_HOUR

    def __str__(self) -> str:
        return (
            f"{self.name} ({self.processes}): {self.first_mib:.0f} -> {self.last_mib:.0f} MiB, "
            f"{self.mib_per_hour:+.2f} MiB/h (95%: {self.low:+.2f} to {self.high:+.2f})"
        )


def growths(samples: Sequence[Sample]) -> tuple[Growth, ...]:
    """The growth of every class that each sample after the warm-up has.

    Raises:
        ValueError: too few samples after the warm-up.
    """
    begin, end = samples[0].seconds, samples[-1].seconds
    warm = [s for s in samples if s.seconds >= begin + WARM_UP_SHARE * (end - begin)]
    if len(warm) < _LEAST_SAMPLES:
        raise ValueError(f"{len(warm)} samples after the warm-up; at least {_LEAST_SAMPLES} needed")
    names = set.intersection(*(set(sample.rss_bytes) for sample in warm))
    return tuple(_growth(name, warm) for name in sorted(names))


def _growth(name: str, samples: Sequence[Sample]) -> Growth:
    mib = [sample.rss_bytes[name] / _MIB for sample in samples]
    hours = [sample.seconds / 3600 for sample in samples]
    fit = theilslopes(mib, hours, alpha=0.95)
    return Growth(
        name=name,
        processes=samples[-1].processes[name],
        first_mib=mib[0],
        last_mib=mib[-1],
        mib_per_hour=float(fit.slope),
        low=float(fit.low_slope),
        high=float(fit.high_slope),
    )
