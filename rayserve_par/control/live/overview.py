"""All that is kept about an application's controller, for views and scripts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rayserve_par.control.live.records import NO_OVERRIDE, ControlStatus, Override
from rayserve_par.control.live.told import ToldEvent, finite

# A controller looks every few seconds; after as long as this something is wrong.
STALE_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class AppControl:
    """One application's controller. `status` is None where none has ever written one.

    `events` are oldest first. `unreadable` says why the events could not be read.
    """

    app: str
    status: ControlStatus | None = None
    override: Override = NO_OVERRIDE
    events: tuple[ToldEvent, ...] = ()
    unreadable: str = ""

    @property
    def last_event(self) -> ToldEvent | None:
        """The newest event."""
        return self.events[-1] if self.events else None

    def age_seconds(self, now_seconds: float) -> float | None:
        """How old the status is."""
        return None if self.status is None else now_seconds - self.status.seconds

    def stale(self, now_seconds: float) -> bool:
        """Whether there is a status, but an old one."""
        age = self.age_seconds(now_seconds)
        return age is not None and age > STALE_SECONDS

    def as_object(self, now_seconds: float) -> dict[str, Any] | None:
        """As JSON; None where there is no controller and nothing is asked of one."""
        if self.status is None and self.override == NO_OVERRIDE and not self.events:
            return None
        last = self.last_event
        data: dict[str, Any] = {
            "status": None if self.status is None else self.status.as_object(),
            "age_seconds": self.age_seconds(now_seconds),
            "stale": self.stale(now_seconds),
            "override": self.override.as_object() if self.override.holds(now_seconds) else None,
            "last_event": None if last is None else last.as_object(),
        }
        found: dict[str, Any] = finite(data)
        return found
