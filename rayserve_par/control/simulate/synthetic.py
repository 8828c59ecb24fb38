"""Arrivals by name, for what traces do not show: rates in requests per second, by chance in time.

    constant    high
    step        low for a third of the time, high for the next, low again
    diurnal     low -> high -> low along a cosine over the whole time
    onoff       high for 600 s, low for 600 s, again and again

Arrivals are a Poisson process of that rate (thinning of one of the highest rate: Lewis & Shedler,
1979). Lengths are drawn from the pairs that are given.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, exp, log, pi
from statistics import NormalDist
from typing import Literal, get_args

from rayserve_par.control.simulate.request import Arrival
from rayserve_par.control.simulate.trace import Draw
from rayserve_par.errors import RefusedError

Shape = Literal["constant", "step", "diurnal", "onoff"]
SHAPES: tuple[str, ...] = get_args(Shape)

ON_SECONDS = 600.0
_PAIRS = 64
_SPREAD = 0.7


def rate_at(shape: Shape, seconds: float, low: float, high: float, duration: float) -> float:
    """Requests per second at a time."""
    if shape == "constant":
        return high
    if shape == "step":
        return high if duration / 3 <= seconds < 2 * duration / 3 else low
    if shape == "diurnal":
        return low + (high - low) * (1 - cos(2 * pi * seconds / duration)) / 2
    return high if int(seconds // ON_SECONDS) % 2 == 0 else low


def lengths_around(isl: float, osl: float) -> tuple[tuple[int, int], ...]:
    """Pairs of lengths with these means: log-normal, ISL and OSL independent of each other."""
    middles = [(n + 0.5) / _PAIRS for n in range(_PAIRS)]
    factors = [exp(_SPREAD * NormalDist().inv_cdf(one) - _SPREAD**2 / 2) for one in middles]
    # 27 and 64 share no divisor: every factor meets another one, in no order.
    others = [factors[(27 * n + 5) % _PAIRS] for n in range(_PAIRS)]
    return tuple(
        (max(1, round(isl * one)), max(1, round(osl * other)))
        for one, other in zip(factors, others, strict=True)
    )


def synthetic(
    shape: Shape,
    *,
    low: float,
    high: float,
    duration: float,
    lengths: Sequence[tuple[int, int]],
    draw: Draw,
) -> tuple[Arrival, ...]:
    """Arrivals over `duration` seconds. Raises RefusedError for rates that are not."""
    if not 0 <= low <= high or high <= 0 or duration <= 0:
        raise RefusedError(
            f"synthetic {shape}: rates {low:g} and {high:g} per second over {duration:g} s; give "
            "0 <= low <= high, high and time above 0."
        )
    found: list[Arrival] = []
    now = 0.0
    while True:
        now -= log(1 - draw()) / high
        if now >= duration:
            return tuple(found)
        if draw() * high < rate_at(shape, now, low, high, duration):
            isl, osl = lengths[int(draw() * len(lengths))]
            found.append(Arrival(now, isl, osl))
