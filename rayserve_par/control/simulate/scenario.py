"""What is simulated beside the arrivals: engine, target, starts, decisions, failures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rayserve_par.control.simulate.engine import EngineLimits, Times
from rayserve_par.errors import RefusedError


@dataclass(frozen=True, slots=True)
class Failure:
    """At `seconds`, `count` instances die (kind "die"), or starts under way fail (kind "start").

    Those that die are the oldest ready ones. A start that fails is found out when it would end.
    """

    kind: Literal["die", "start"]
    seconds: float
    count: int = 1


@dataclass(frozen=True, slots=True)
class Scenario:
    """One simulation. Seconds, GPUs of an instance, and how much a front holds.

    `initial` instances are ready at 0. `most` is what the cluster holds. `times` are those of the
    engines that run, which need not be those that the policy believes in.
    """

    times: Times
    limits: EngineLimits
    gpus_per_instance: int
    initial: int
    most: int
    start_seconds: float = 60.0
    interval_seconds: float = 10.0
    duration_seconds: float = 3600.0
    held_requests: int = 10_000
    ttft_limit: float = 2.0
    tpot_limit: float = 0.05
    failures: tuple[Failure, ...] = ()

    def __post_init__(self) -> None:
        for name in ("interval_seconds", "duration_seconds", "ttft_limit", "tpot_limit"):
            if getattr(self, name) <= 0:
                raise RefusedError(f"scenario: {name} is {getattr(self, name):g}; give above 0.")
        if self.start_seconds < 0:
            raise RefusedError(f"scenario: start_seconds is {self.start_seconds:g}; give 0 or more")
        if not 0 <= self.initial <= self.most:
            raise RefusedError(
                f"scenario: {self.initial} instances at the start and {self.most} at most."
            )
