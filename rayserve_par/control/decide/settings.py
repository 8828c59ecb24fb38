"""What a user may set about scaling, with the reasons for the defaults. Frozen and checked.

The look-back is counted in starts, since a start is what an instance given up too early costs:
it is `calm_starts` long where arrivals are as even as chance alone makes them, and grows to
`bursty_starts` with their burstiness (demand.py), and to `rare_starts` only where bursts are so few
that less does not tell their mean (scale.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from rayserve_par.errors import RefusedError


@dataclass(frozen=True, slots=True)
class Bounds:
    """The least and the most instances. Raises RefusedError where they cross."""

    least: int = 1
    most: int = 1

    def __post_init__(self) -> None:
        if self.least < 0 or self.most < 1 or self.least > self.most:
            raise RefusedError(
                f"limits: min {self.least} and max {self.most} instances. Give 0 <= min <= max and "
                "max of at least 1."
            )

    def clamp(self, wanted: int) -> int:
        """The nearest number within."""
        return min(self.most, max(self.least, wanted))


def bounds_within(least: int, most: int, gpus_per_instance: int, gpu_budget: int | None) -> Bounds:
    """Bounds that keep a budget of GPUs as well. Raises RefusedError where `least` exceeds it."""
    if gpu_budget is None:
        return Bounds(least, most)
    held = gpu_budget // gpus_per_instance
    if held < max(1, least):
        raise RefusedError(
            f"limits: min {max(1, least)} x {gpus_per_instance} GPUs = "
            f"{max(1, least) * gpus_per_instance} GPUs exceed the budget of {gpu_budget}. Raise "
            "the budget or lower min."
        )
    return Bounds(least, min(most, held))


@dataclass(frozen=True, slots=True)
class ScaleSettings:
    """How the policy scales.

    bounds             the least and the most instances
    attainment         share of requests that must be within TTFT and TPOT
    usable_share       share of an instance's full rate that is planned with; the rest covers
                       what the router leaves uneven and what the model is off by
    margin             scale-down only if fewer would have held this much more load as well
    calm_starts        look-back in starts under even arrivals
    bursty_starts      look-back in starts under very uneven ones
    rare_starts        look-back in starts at most, where few bursts make up the load
    calm_burstiness    up to this variance, in multiples of chance alone, arrivals are even;
    bursty_burstiness  from this one on they are very uneven
    certainty          standard errors by which a rise must be more than chance to be followed
    trend_fit          share of the load's variance that a straight line must explain to be a trend
    settle_seconds     after a scale-up, no scale-down for as long unless load has fallen since
    look_seconds       between two decisions
    to_zero_seconds    scale to zero after as long without a request; None never (min 0 needed)
    correct_from       predictions off by less than this factor are left as they are
    """

    bounds: Bounds
    attainment: float = 0.99
    usable_share: float = 0.95
    margin: float = 0.08
    calm_starts: float = 1.0
    bursty_starts: float = 6.0
    rare_starts: float = 10.0
    calm_burstiness: float = 2.0
    bursty_burstiness: float = 6.0
    certainty: float = 2.0
    trend_fit: float = 0.8
    settle_seconds: float = 600.0
    look_seconds: float = 2.0
    to_zero_seconds: float | None = None
    correct_from: float = 1.15

    def __post_init__(self) -> None:
        self._between("attainment", 0.5, 0.9999)
        self._between("usable_share", 0.1, 1.0)
        self._between("margin", 0.0, 1.0)
        self._between("calm_starts", 1.0, 100.0)
        self._between("bursty_starts", self.calm_starts, 100.0)
        self._between("rare_starts", self.bursty_starts, 100.0)
        self._between("calm_burstiness", 0.0, 1e6)
        self._between("bursty_burstiness", self.calm_burstiness, 1e6)
        self._between("certainty", 0.0, 10.0)
        self._between("trend_fit", 0.0, 1.0)
        self._between("settle_seconds", 0.0, 86400.0)
        self._between("look_seconds", 0.1, 600.0)
        self._between("correct_from", 1.0, 2.0)
        if self.to_zero_seconds is not None:
            self._between("to_zero_seconds", 1.0, 1e7)
            if self.bounds.least > 0:
                raise RefusedError(
                    f"to_zero_seconds is {self.to_zero_seconds:g} and min is {self.bounds.least}. "
                    "Scaling to zero needs min 0."
                )

    def _between(self, name: str, low: float, high: float) -> None:
        value = getattr(self, name)
        if not (isfinite(value) and low <= value <= high):
            raise RefusedError(
                f"scaling: {name} is {value:g}; it must be from {low:g} to {high:g}."
            )
