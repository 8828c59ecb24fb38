"""Whether a new layout is worse in fact: what was measured before and after, at comparable load.

Means over looks, each weighted with exp(-age / 60 s), of TTFT, TPOT and arrivals as instances
report them. Loads are comparable where their rates differ by at most 30%. A figure is worse when

    after > factor x max(before, predicted)     or     before <= limit < after

so that a layout which is slower as predicted, and within the target, is not taken back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import exp

_MEMORY_SECONDS = 60.0
_COMPARABLE = 0.3


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured in one look; None where no request ended. Seconds, requests per second."""

    requests_per_second: float
    ttft_seconds: float | None
    tpot_seconds: float | None


@dataclass(frozen=True, slots=True)
class Window:
    """Decayed means since `since_seconds`; `weight` 0 where nothing was measured yet."""

    since_seconds: float
    until_seconds: float = 0.0
    weight: float = 0.0
    requests_per_second: float = 0.0
    ttft_seconds: float = 0.0
    tpot_seconds: float = 0.0

    def after(self, now_seconds: float, found: Figures) -> Window:
        """The window with one more look; looks in which no request ended leave it as it is."""
        if found.ttft_seconds is None or found.tpot_seconds is None:
            return self
        old = self.weight * exp(-max(0.0, now_seconds - self.until_seconds) / _MEMORY_SECONDS)
        weight = old + 1.0

        def mean(before: float, new: float) -> float:
            return (before * old + new) / weight

        return replace(
            self,
            until_seconds=now_seconds,
            weight=weight,
            requests_per_second=mean(self.requests_per_second, found.requests_per_second),
            ttft_seconds=mean(self.ttft_seconds, found.ttft_seconds),
            tpot_seconds=mean(self.tpot_seconds, found.tpot_seconds),
        )

    def not_after(self, now_seconds: float) -> Window:
        """The window with no time that is still to come, as after a clock was set back."""
        return replace(
            self,
            since_seconds=min(self.since_seconds, now_seconds),
            until_seconds=min(self.until_seconds, now_seconds),
        )

    @property
    def seconds(self) -> float:
        """How long it has been measured."""
        return max(0.0, self.until_seconds - self.since_seconds) if self.weight else 0.0

    def comparable(self, other: Window) -> bool:
        """Whether both were measured, at about the same load."""
        if not (self.weight and other.weight):
            return False
        high = max(self.requests_per_second, other.requests_per_second)
        low = min(self.requests_per_second, other.requests_per_second)
        return low >= (1 - _COMPARABLE) * high


@dataclass(frozen=True, slots=True)
class Expectation:
    """What was predicted of the new layout, and the limits, in seconds."""

    ttft_seconds: float
    tpot_seconds: float
    ttft_limit_seconds: float
    tpot_limit_seconds: float


def worse(before: Window, after: Window, expected: Expectation, factor: float) -> str:
    """In words what is worse; "" where nothing is."""
    figures = (
        ("TTFT", before.ttft_seconds, after.ttft_seconds, expected.ttft_seconds,
         expected.ttft_limit_seconds),
        ("TPOT", before.tpot_seconds, after.tpot_seconds, expected.tpot_seconds,
         expected.tpot_limit_seconds),
    )  # fmt: skip
    found = []
    for name, was, now, predicted, limit in figures:
        if was <= limit < now:
            found.append(
                f"{name} {1e3 * now:.0f} ms breaks {1e3 * limit:g} ms, was {1e3 * was:.0f}"
            )
        elif now > factor * max(was, predicted):
            found.append(
                f"{name} {1e3 * now:.0f} ms > {factor:g} x max({1e3 * was:.0f} ms before, "
                f"{1e3 * predicted:.0f} ms predicted)"
            )
    return "; ".join(found)
