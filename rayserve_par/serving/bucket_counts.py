"""A histogram's counts, kept in the process: observing costs a search among the bounds.

Bucket i holds values up to and with bound i, the last one all others, as Prometheus has it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate


class BucketCounts:
    """Counts by bucket, their number and their sum."""

    __slots__ = ("_counts", "bounds", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(sorted(float(bound) for bound in bounds))
        self.total = 0.0
        self._counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        """Count one value."""
        self._counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self._counts)

    def cumulative(self) -> Iterator[tuple[str, int]]:
        """Each bucket's `le` and how many values are at most that; `+Inf` last."""
        names = (*(str(bound) for bound in self.bounds), "+Inf")
        return zip(names, accumulate(self._counts), strict=True)
