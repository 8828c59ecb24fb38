"""Numbers as an operator reads them: seconds, shares, ages, and what is measured against a target.

A measurement has a sign beside its colour, so that it reads without one:
    ok    at most 90% of the target
    near  above that and at most the target
    OVER  above the target
    -     nothing was measured
"""

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass

_NEAR = 0.9


@dataclass(frozen=True, slots=True)
class Mark:
    """A sign and the style that goes with it."""

    sign: str
    style: str


OK, NEAR, OVER = Mark("ok", "green"), Mark("near", "yellow"), Mark("OVER", "bold red")
UNKNOWN = Mark("-", "dim")


def mark_of(measured: float | None, target: float) -> Mark:
    """How a measurement stands against a target that it should not be above."""
    if measured is None or math.isnan(measured):
        return UNKNOWN
    if measured > target:
        return OVER
    return NEAR if measured > _NEAR * target else OK


def seconds_text(seconds: float | None) -> str:
    """Seconds with three digits that matter, in ms below 1 s; "-" for None."""
    if seconds is None or math.isnan(seconds):
        return "-"
    if math.isinf(seconds):
        return "never"
    if abs(seconds) < 1:
        return f"{1e3 * seconds:.3g} ms"
    return f"{seconds:.3g} s" if seconds < 100 else f"{seconds:,.0f} s"


def duration_text(seconds: float) -> str:
    """A while in its two largest units: "45 s", "3 min 20 s", "2 h 5 min", "3 d 4 h"."""
    whole = max(0, round(seconds))
    units = (("d", whole // 86400), ("h", whole // 3600 % 24), ("min", whole // 60 % 60))
    parts = [(unit, count) for unit, count in (*units, ("s", whole % 60))]
    first = next((n for n, (_, count) in enumerate(parts) if count), 3)
    shown = [f"{count} {unit}" for unit, count in parts[first : first + 2] if count]
    return " ".join(shown) or "0 s"


def age_text(seconds: float) -> str:
    """How long ago; clocks of two machines may differ."""
    if seconds < -1:
        return f"{duration_text(-seconds)} ahead of this clock"
    return f"{duration_text(seconds)} ago"


def clock_text(seconds: float, zone: datetime.tzinfo | None = None) -> str:
    """A moment as HH:MM:SS, local unless a zone is given."""
    return f"{_moment(seconds, zone):%H:%M:%S}"


def date_text(seconds: float, zone: datetime.tzinfo | None = None) -> str:
    """A moment with its date."""
    return f"{_moment(seconds, zone):%Y-%m-%d %H:%M:%S}"


def share_text(share: float) -> str:
    """A share as per cent."""
    return f"{share:.0%}"


def count_text(number: int, noun: str) -> str:
    """A number of things."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _moment(seconds: float, zone: datetime.tzinfo | None) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, zone)
