"""From single requests to a comparison of two servers.

For one cell (server, streams, round): TTFT p50 and p99 in seconds, TPOT in seconds as the median
of the requests' means, requests per second = finished requests / seconds from the first start to
the last end. For one server: the median of each over the rounds. Ratios are ours / bare.
The p-th percentile of n sorted values is the one of rank ceil(p * n) (nearest rank): no value that
was not measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

BARE = "bare"
OURS = "ours"
PAST = "ours, past HAProxy"
PEER = "Ray Serve LLM"


@dataclass(frozen=True, slots=True)
class Request:
    """One streamed request; times in seconds of one clock."""

    start: float
    first_token: float
    end: float
    output_tokens: int

    @property
    def ttft_seconds(self) -> float:
        """Time to first token."""
        return self.first_token - self.start

    @property
    def tpot_seconds(self) -> float:
        """Mean time per output token after the first."""
        return (self.end - self.first_token) / (self.output_tokens - 1)


@dataclass(frozen=True, slots=True)
class Cell:
    """What one server did at one number of streams."""

    ttft_p50_seconds: float
    ttft_p99_seconds: float
    tpot_seconds: float
    requests_per_second: float
    cpu_seconds_per_request: float


METRICS = tuple(Cell.__dataclass_fields__)


def percentile(values: Iterable[float], share: float) -> float:
    """Nearest-rank percentile; `share` in (0, 1].

    Raises:
        ValueError: no values, or a share outside (0, 1].
    """
    ordered = sorted(values)
    if not ordered or not 0 < share <= 1:
        raise ValueError(f"no percentile {share} of {len(ordered)} values")
    return ordered[math.ceil(share * len(ordered)) - 1]


def summarize(requests: Sequence[Request], cpu_seconds: float) -> Cell:
    """One cell from its requests and the CPU seconds that the server used meanwhile."""
    ttfts = [request.ttft_seconds for request in requests]
    seconds = max(r.end for r in requests) - min(r.start for r in requests)
    return Cell(
        ttft_p50_seconds=percentile(ttfts, 0.5),
        ttft_p99_seconds=percentile(ttfts, 0.99),
        tpot_seconds=median(request.tpot_seconds for request in requests),
        requests_per_second=len(requests) / seconds,
        cpu_seconds_per_request=cpu_seconds / len(requests),
    )


def over_rounds(cells: Sequence[Cell]) -> Cell:
    """The median of each metric over the rounds."""
    return Cell(**{name: median(getattr(cell, name) for cell in cells) for name in METRICS})


def ratio(ours: Cell, bare: Cell, metric: str) -> float:
    """Ours / bare for one metric."""
    return float(getattr(ours, metric) / getattr(bare, metric))


@dataclass(frozen=True, slots=True)
class Target:
    """A bound on one measured number, and whether it holds."""

    name: str
    value: float
    bound: float
    at_most: bool

    @property
    def met(self) -> bool:
        """Whether the value is on the right side of the bound."""
        return self.value <= self.bound if self.at_most else self.value >= self.bound

    def __str__(self) -> str:
        sign = "<=" if self.at_most else ">="
        return f"{self.name}: {self.value:.2f} (target {sign} {self.bound:.2f})"


@dataclass(frozen=True, slots=True)
class Bounds:
    """What ours may cost, each ours / bare; the defaults are for a host of few cores."""

    ttft_p50_at_most: float = 1.10
    ttft_p99_at_most: float = 1.30
    requests_at_least: float = 0.95


START_AT_MOST_SECONDS = 10.0


def targets(
    cells: Mapping[tuple[str, int], Cell], start_seconds: Mapping[str, float], bounds: Bounds
) -> tuple[Target, ...]:
    """The targets of this benchmark; `cells` by (server, streams), starts by server."""
    judged = []
    for streams in sorted({streams for _, streams in cells}):
        bare, ours = cells[BARE, streams], cells[OURS, streams]
        for name, metric, bound, at_most in (
            ("TTFT p50", "ttft_p50_seconds", bounds.ttft_p50_at_most, True),
            ("TTFT p99", "ttft_p99_seconds", bounds.ttft_p99_at_most, True),
            ("requests per second", "requests_per_second", bounds.requests_at_least, False),
        ):
            value = ratio(ours, bare, metric)
            label = f"{name} at {streams} streams, ours / bare"
            judged.append(Target(label, value, bound, at_most=at_most))
    start = start_seconds[OURS] - start_seconds[BARE]
    judged.append(
        Target("replica start - bare start, seconds", start, START_AT_MOST_SECONDS, at_most=True)
    )
    return tuple(judged)
