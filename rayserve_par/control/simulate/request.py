"""A request of a trace, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Arrival:
    """A request as it arrives: seconds since the trace began, tokens in and out."""

    seconds: float
    isl: int
    osl: int


class Request:
    """One request on its way; mutable, for it is what the simulation changes most.

    `first_seconds` and `end_seconds` are None until they happen; `lost` says why it failed.
    `prompt` is what is to be prefilled, more than `isl` after a preemption; `left` the output
    tokens that are still to come after that prefill's own.
    """

    __slots__ = (
        "arrival",
        "end_seconds",
        "first_seconds",
        "isl",
        "lost",
        "osl",
        "preemptions",
        "prefilled",
        "prompt",
        "retries",
        "stop_count",
    )

    def __init__(self, arrival: Arrival) -> None:
        self.arrival = arrival.seconds
        self.isl = self.prompt = arrival.isl
        self.osl = arrival.osl
        self.prefilled = 0
        self.stop_count = 0
        self.first_seconds: float | None = None
        self.end_seconds: float | None = None
        self.lost: str | None = None
        self.preemptions = 0
        self.retries = 0

    @property
    def ttft_seconds(self) -> float | None:
        """Seconds to the first token; None where none came."""
        return None if self.first_seconds is None else self.first_seconds - self.arrival

    @property
    def tpot_seconds(self) -> float | None:
        """Seconds per token after the first; None where it did not end, 0 for a single token."""
        if self.end_seconds is None or self.first_seconds is None or self.lost:
            return None
        if self.osl == 1:
            return 0.0
        return (self.end_seconds - self.first_seconds) / (self.osl - 1)

    def meets(self, ttft_limit: float, tpot_limit: float) -> bool:
        """Whether it ended within both limits."""
        ttft, tpot = self.ttft_seconds, self.tpot_seconds
        return ttft is not None and tpot is not None and ttft <= ttft_limit and tpot <= tpot_limit


def in_order(arrivals: Sequence[Arrival]) -> tuple[Arrival, ...]:
    """By time; the first at 0 or later."""
    return tuple(sorted(arrivals))
