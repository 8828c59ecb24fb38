"""What a decision is: how many instances are wanted, why, and what was expected of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from rayserve_par.control.decide.state import ModelState


class Reason(StrEnum):
    """Why this many. Closed: each has a row in docs/autoscaling.md.

    STEADY: what runs is what is needed. FORECAST: the load that is expected within a start needs
    more. BACKLOG: what waits now needs more to be worked off. HOLD: fewer would do by now, but a
    start costs more than keeping. SHRINK: one less has held with margin for long enough.
    TO_ZERO: nothing has come for long enough. FROM_ZERO: a request waits and nothing runs.
    AT_MIN, AT_MAX, NO_ROOM: a limit decides: the least, the most, or free GPUs, of which other
    models may have come first. WAITS: more are needed, and other models are heard first, for one
    look. GAVE_UP: a spare one goes, for a model that misses its target.
    STATIC, ONGOING, AVERAGE: baselines.
    """

    STEADY = "steady"
    FORECAST = "forecast"
    BACKLOG = "backlog"
    HOLD = "hold"
    SHRINK = "shrink"
    TO_ZERO = "to_zero"
    FROM_ZERO = "from_zero"
    AT_MIN = "at_min"
    AT_MAX = "at_max"
    NO_ROOM = "no_room"
    WAITS = "waits"
    GAVE_UP = "gave_up"
    STATIC = "static"
    ONGOING = "ongoing_requests"
    AVERAGE = "average_rate"


@dataclass(frozen=True, slots=True)
class Option:
    """A number of instances that was considered, with what the model predicts for it.

    TTFT at the target's percentile, mean TPOT, seconds; utilisation is busy time over time.
    """

    instances: int
    ttft_seconds: float
    tpot_seconds: float
    utilisation: float
    meets: bool


@dataclass(frozen=True, slots=True)
class Decision:
    """`wanted` instances from now on, and when to look again.

    `spare` of them would not be missed: fewer have held with margin over the whole look-back, and
    only a recent scale-up keeps them.
    """

    wanted: int
    reason: Reason
    next_look_seconds: float
    options: tuple[Option, ...] = ()
    needed: int | None = None
    note: str = ""
    spare: int = 0


class Policy(Protocol):
    """Anything that decides. `memory` is what it returned last; None at first.

    The same for the live controller and the simulator: no clock, no state of its own.
    """

    @property
    def name(self) -> str:
        """How results call it."""
        ...

    @property
    def history_seconds(self) -> float:
        """How much load history it wants."""
        ...

    def decide(self, state: ModelState, memory: Any) -> tuple[Decision, Any]:
        """The decision, and what to remember."""
        ...
