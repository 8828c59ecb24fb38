"""What the load has been and where it goes, as work by the second.

    w_t          instance-seconds of work that arrived in second t (Capacity.work_seconds)
    sustained    max over windows of 1 to 60 s of (mean - z x standard error): the rate that the
                 latest arrivals show beyond chance. A step is seen within seconds, a lone burst of
                 a few requests is not; z is twice as large at 1 s as from 10 s on, since there
                 are as many more windows in which chance may try. se = sqrt(c x work x each) /
                 window, with `each` the work of a mean request and c = 2: arrivals by chance,
                 lengths that vary as much again
    burstiness   median of squared differences of neighbouring 10 s sums / what chance gives.
                 A single step does not move a median, bursts that come and go do
    known        the seconds T whose mean load is known to within a relative error e although it
                 comes in bursts: T = burstiness x c x each / (e^2 x load)
    trend        slope of a straight line through 10 s means, where it explains enough of their
                 variance; the shortest of 180, 300, 600 s that does, so that a bend is
                 followed

Detrended work moves every second of the look-back to where the line puts it at the time that
counts: a start ahead where load rises, now where it falls. Falls of bursty load are damped by the
caller (scale.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log10, sqrt
from statistics import median

from rayserve_par.control.decide.state import LoadHistory
from rayserve_par.control.instance_model.capacity import Capacity

TREND_SECONDS = (180, 300, 600)
_SUSTAINED_SECONDS = (1, 2, 3, 5, 10, 20, 30, 60)
_SUM_SECONDS = 10
_LENGTH_VARIANCE = 2.0
# The median of a squared normal deviate is 0.455 of its mean.
_MEDIAN_OF_SQUARES = 0.455


@dataclass(frozen=True, slots=True)
class Demand:
    """Work by the second, oldest first, and the work of a mean request."""

    work: tuple[float, ...]
    each: float

    def sustained(self, certainty: float, least_seconds: float = 1.0) -> float:
        """Instances' worth of load that the latest arrivals show beyond chance.

        Only windows from `least_seconds` on are looked at.
        """
        best = 0.0
        for seconds in _SUSTAINED_SECONDS:
            if seconds > len(self.work):
                break
            if seconds < least_seconds:
                continue
            total = sum(self.work[-seconds:])
            error = sqrt(_LENGTH_VARIANCE * total * self.each) / seconds
            errors = certainty * max(1.0, 2.0 - log10(seconds))
            best = max(best, total / seconds - errors * error)
        return best

    def burstiness(self, seconds: int) -> float:
        """Variance from one 10 s to the next, in multiples of what chance alone gives."""
        sums = self._sums(seconds)
        busy = [(one, two) for one, two in pairwise(sums) if one + two > 0]
        if len(busy) < 3:
            return 1.0
        typical = median((one - two) ** 2 for one, two in busy) / _MEDIAN_OF_SQUARES
        chance = median(_LENGTH_VARIANCE * self.each * (one + two) for one, two in busy)
        return typical / chance

    def known_seconds(self, burstiness: float, error: float) -> float:
        """How long load must be looked at to know its mean to within this relative error."""
        part = self.work[-TREND_SECONDS[-1] :]
        total = sum(part)
        if not total:
            return 0.0
        return burstiness * _LENGTH_VARIANCE * self.each * len(part) / (error * error * total)

    def slope(self, fit: float) -> float:
        """Instances' worth per second by which load grows; 0 where no line explains it."""
        for seconds in TREND_SECONDS:
            sums = self._sums(seconds)
            if len(sums) * _SUM_SECONDS < seconds:
                continue
            found, explained = _line([one / _SUM_SECONDS for one in sums])
            if explained >= fit:
                return found / _SUM_SECONDS
        return 0.0

    def detrended(self, seconds: int, slope: float, ahead_seconds: float) -> list[float]:
        """The last `seconds` of work as if they came when it counts."""
        part = self.work[-seconds:]
        if not slope:
            return list(part)
        ahead = ahead_seconds if slope > 0 else 0.0
        last = len(part) - 1
        return [max(0.0, one + slope * (last - n + ahead)) for n, one in enumerate(part)]

    def noise(self, seconds: int) -> float:
        """Standard error of the mean over so many seconds by chance alone, relative to it."""
        total = sum(self.work[-seconds:])
        return sqrt(_LENGTH_VARIANCE * self.each / total) if total else 0.0

    def _sums(self, seconds: int) -> list[float]:
        part = self.work[-seconds:]
        first = len(part) % _SUM_SECONDS
        starts = range(first, len(part), _SUM_SECONDS)
        return [sum(part[start : start + _SUM_SECONDS]) for start in starts]


def demand_of(load: LoadHistory, capacity: Capacity) -> Demand:
    """The work of a load history; bins longer than a second are spread evenly over theirs."""
    by_bin = [
        capacity.work_seconds(requests, tokens)
        for requests, tokens in zip(load.requests, load.prompt_tokens, strict=True)
    ]
    each = capacity.work_seconds(1.0, load.isl)
    if load.bin_seconds == 1.0:
        return Demand(tuple(by_bin), each)
    return Demand(_by_second(by_bin, load.bin_seconds), each)


def _by_second(by_bin: Sequence[float], bin_seconds: float) -> tuple[float, ...]:
    seconds = int(len(by_bin) * bin_seconds)
    found = [0.0] * seconds
    for index, work in enumerate(by_bin):
        start, end = index * bin_seconds, (index + 1) * bin_seconds
        second = int(start)
        while second < end and second < seconds:
            part = min(end, second + 1) - max(start, second)
            found[second] += work * part / bin_seconds
            second += 1
    return tuple(found)


def _line(values: Sequence[float]) -> tuple[float, float]:
    """Slope per step of the least-squares line, and the share of variance that it explains."""
    count = len(values)
    middle, mean = (count - 1) / 2, sum(values) / count
    spread = count * (count * count - 1) / 12
    together = sum((n - middle) * (value - mean) for n, value in enumerate(values))
    total = sum((value - mean) ** 2 for value in values)
    slope = together / spread
    return slope, slope * together / total if total > 0 else 0.0
