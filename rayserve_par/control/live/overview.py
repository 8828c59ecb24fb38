"""All that is kept about an application's controller, for views and scripts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rayserve_par.control.decide.replan_events import ReplanEvent
from rayserve_par.control.live.records import NO_OVERRIDE, ControlStatus, Override
from rayserve_par.control.live.told import Told, ToldEvent, finite


@dataclass(frozen=True, slots=True)
class AppControl:
    """One application's controller. `status` is None where none has ever written one.

    `events` are those of the scaling policy and of the re-planner, oldest first. `unreadable` says
    why some could not be read.
    """

    app: str
    status: ControlStatus | None = None
    override: Override = NO_OVERRIDE
    events: tuple[Told, ...] = ()
    unreadable: str = ""

    @property
    def last_event(self) -> ToldEvent | None:
        """The scaling policy's newest decision."""
        return next((one for one in reversed(self.events) if isinstance(one, ToldEvent)), None)

    @property
    def last_replan(self) -> ReplanEvent | None:
        """The re-planner's newest decision."""
        return next((one for one in reversed(self.events) if isinstance(one, ReplanEvent)), None)

    def age_seconds(self, now_seconds: float) -> float | None:
        """How old the status is."""
        return None if self.status is None else now_seconds - self.status.seconds

    def stale(self, now_seconds: float) -> bool:
        """Whether there is a status, but a stale one."""
        return self.status is not None and self.status.stale(now_seconds)

    def as_object(self, now_seconds: float) -> dict[str, Any] | None:
        """As JSON; None where there is no controller and nothing is asked of one."""
        if self.status is None and self.override == NO_OVERRIDE and not self.events:
            return None
        last, last_replan = self.last_event, self.last_replan
        data: dict[str, Any] = {
            "status": None if self.status is None else self.status.as_object(),
            "age_seconds": self.age_seconds(now_seconds),
            "stale": self.stale(now_seconds),
            "override": self.override.as_object() if self.override.holds(now_seconds) else None,
            "last_event": None if last is None else last.as_object(),
            "last_replan": None if last_replan is None else last_replan.as_object(),
        }
        found: dict[str, Any] = finite(data)
        return found
