"""Scales from values to pixels, with ticks at 1, 2 or 5 times a power of ten."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, log, log10

_TICKS = 6
_STEPS = (1, 2, 5, 10)


@dataclass(frozen=True, slots=True)
class LinearScale:
    """Values from 0 to `top` on the pixels from `start` to `end`."""

    top: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """The pixel of a value."""
        return self.start + (self.end - self.start) * value / self.top

    @property
    def ticks(self) -> tuple[float, ...]:
        """Round values from 0 to the top."""
        step = round_step(self.top / _TICKS)
        return tuple(step * n for n in range(floor(self.top / step * (1 + 1e-9)) + 1))


@dataclass(frozen=True, slots=True)
class LogScale:
    """Values from `bottom` to `top`, both ticks, by their logarithm on the pixels between."""

    bottom: float
    top: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """The pixel of a value."""
        share = log(value / self.bottom) / log(self.top / self.bottom)
        return self.start + (self.end - self.start) * share

    @property
    def ticks(self) -> tuple[float, ...]:
        """1, 2 and 5 times every power of ten from the bottom to the top."""
        found = [self.bottom]
        while found[-1] < self.top * (1 - 1e-9):
            found.append(round_step(found[-1] * (1 + 1e-6)))
        return tuple(found)


def round_step(least: float) -> float:
    """The smallest of 1, 2, 5 x 10^n that is at least `least`."""
    power = 10.0 ** floor(log10(least))
    return next(factor * power for factor in _STEPS if factor * power >= least * (1 - 1e-9))


def linear_scale(largest: float, start: float, end: float) -> LinearScale:
    """A scale whose top is the first tick at or above `largest`."""
    step = round_step(largest / _TICKS)
    return LinearScale(ceil(largest / step * (1 - 1e-9)) * step, start, end)


def log_scale(smallest: float, largest: float, start: float, end: float) -> LogScale:
    """A scale from the last tick at or below `smallest` to the first at or above `largest`."""
    power = 10.0 ** floor(log10(smallest))
    bottom = max(step * power for step in _STEPS if step * power <= smallest * (1 + 1e-9))
    top = round_step(largest)
    return LogScale(bottom, top if top > bottom else round_step(1.01 * bottom), start, end)
