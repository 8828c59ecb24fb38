"""What the live controller writes down about each application, and what an operator asks of it.

Plain values with JSON forms; `store.py` keeps them in Ray's key-value store, so that they outlive
every process of ours and of Serve's, and commands read them without asking anybody.
Times are Unix seconds, durations seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

# One look may be missed and another be late; after these something is wrong.
_STALE_LOOKS = 3
_LEAST_STALE_SECONDS = 15.0


class Mode(StrEnum):
    """What becomes of decisions.

    ACTING: they are carried out. DRY_RUN: they are only written down. PAUSED: an operator wants
    the number of instances left as it is. OVERRIDDEN: an operator has set the number.
    """

    ACTING = "acting"
    DRY_RUN = "dry_run"
    PAUSED = "paused"
    OVERRIDDEN = "overridden"


@dataclass(frozen=True, slots=True)
class InstanceStatus:
    """One instance as it reported last; `age_seconds` is how long ago that was."""

    name: str
    phase: str
    running: int
    waiting: int
    kv_use: float
    age_seconds: float


@dataclass(frozen=True, slots=True)
class ControlStatus:
    """One application at the latest look.

    `wanted` is what Serve was told, `decided` what the policy found; they differ unless the mode
    is ACTING. TTFT and TPOT are means over the requests that ended since the last decision, None
    where none did; `predicted_*` are the model's for the present number of instances.
    `correction` is the factor by which steps take longer than planned. `problems` are words for
    people: stale reports, a policy that failed, a target out of reach. `look_seconds` is the time
    between two looks. `load_age_seconds` is how long before the look the arrivals that it knew of
    end; None where it failed.
    """

    app: str
    model: str
    layout: str
    gpus_per_instance: int
    seconds: float
    mode: Mode
    wanted: int
    decided: int
    reason: str
    ready: int
    starting: int
    draining: int
    least: int
    most: int
    room: int | None
    requests_per_second: float
    isl: float
    osl: float
    ttft_target_seconds: float
    tpot_target_seconds: float
    ttft_seconds: float | None
    tpot_seconds: float | None
    predicted_ttft_seconds: float | None
    predicted_tpot_seconds: float | None
    correction: float
    start_seconds: float
    decision_seconds: float
    look_seconds: float = 2.0
    load_age_seconds: float | None = None
    instances: tuple[InstanceStatus, ...] = ()
    problems: tuple[str, ...] = ()

    def stale(self, now_seconds: float) -> bool:
        """Whether it is from before the last three looks (at least 15 s)."""
        limit = max(_LEAST_STALE_SECONDS, _STALE_LOOKS * self.look_seconds)
        return now_seconds - self.seconds > limit

    def as_object(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def from_object(cls, found: Mapping[str, Any]) -> ControlStatus:
        """The reverse of `as_object`."""
        instances = tuple(InstanceStatus(**one) for one in found["instances"])
        rest = {**found, "mode": Mode(found["mode"]), "problems": tuple(found["problems"])}
        return cls(**{**rest, "instances": instances})


@dataclass(frozen=True, slots=True)
class Override:
    """What an operator asks for. `instances` sets a number, `paused` leaves the one there is.

    It holds until `until_seconds` (Unix), or until it is taken back where that is None.
    """

    paused: bool = False
    instances: int | None = None
    dry_run: bool = False
    until_seconds: float | None = None
    note: str = ""

    def holds(self, now_seconds: float) -> bool:
        """Whether it still counts."""
        return self.until_seconds is None or now_seconds < self.until_seconds

    def as_object(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


NO_OVERRIDE = Override()
