"""Decisions as they are read back from the store, for people and scripts.

There are two logs of each application, and each counts for itself: number 12 of the scaling policy
is named `12`, number 12 of the re-planner `r12`.

- The scaling policy's is read as the reverse of `decide.events.Event.as_object`, but forgiving: a
  log outlives the release that wrote it, so keys that this release does not know are left out,
  parts that are not there are None, and a reason is any word. A number, a time and a change are
  always there.
- The re-planner's is read as strictly as the re-planner itself reads it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from rayserve_par.control.decide.decision import Option
from rayserve_par.control.decide.events import CameTrue, Inputs
from rayserve_par.control.decide.replan_events import ReplanEvent
from rayserve_par.errors import RefusedError

_Part = TypeVar("_Part", Option, Inputs, CameTrue)


@dataclass(frozen=True, slots=True)
class ToldEvent:
    """One scaling decision. `seconds` is Unix time; `found` is all of it as kept."""

    app: str
    number: int
    seconds: float
    policy: str
    before: int
    wanted: int
    reason: str
    note: str
    needed: int | None
    inputs: Inputs | None
    options: tuple[Option, ...]
    came_true: CameTrue | None
    found: Mapping[str, Any]

    @property
    def name(self) -> str:
        """What it is called among the decisions of its application."""
        return str(self.number)

    @property
    def predicted(self) -> Option | None:
        """What was predicted for the number that was decided on, if it was among the options."""
        return next((one for one in self.options if one.instances == self.wanted), None)

    def as_object(self) -> dict[str, Any]:
        """As JSON: all that is kept, and whose it is. Numbers without end are null."""
        return {"app": self.app, "log": "scaling", "name": self.name, **finite(self.found)}


Told = ToldEvent | ReplanEvent


def told_events(app: str, log: Mapping[str, Any]) -> tuple[ToldEvent, ...]:
    """The events of an application's log, oldest first.

    Raises:
        RefusedError: an event lacks its number, time or change.
    """
    try:
        return tuple(_told(app, one) for one in log["events"])
    except (KeyError, TypeError, ValueError) as error:
        raise _unreadable(f"The event log of {app}", error) from error


def told_replans(app: str, record: Mapping[str, Any] | None) -> tuple[ReplanEvent, ...]:
    """The events of the re-planner's record of an application, oldest first.

    Raises:
        RefusedError: the record's log is not one of this release.
    """
    from pydantic import TypeAdapter

    if record is None:
        return ()
    try:
        return TypeAdapter(tuple[ReplanEvent, ...]).validate_python(record["log"]["events"])
    except (KeyError, TypeError, ValueError) as error:
        raise _unreadable(f"The re-planner's log of {app}", error) from error


def in_order(found: Iterable[Told]) -> tuple[Told, ...]:
    """In order of time."""
    return tuple(sorted(found, key=lambda one: (one.seconds, one.app, one.number, one.name)))


def news(before: Sequence[Told], after: Sequence[Told]) -> tuple[Told, ...]:
    """Events that are new, or of which it has become known what came true, in order of time.

    An event is the same if application, name and time are: a log that begins anew has numbers
    that were there already.
    """
    known = {_key(one): one for one in before}
    fresh = []
    for one in after:
        old = known.get(_key(one))
        if old is None or (old.came_true is None and one.came_true is not None):
            fresh.append(one)
    return in_order(fresh)


def finite(value: Any) -> Any:
    """JSON data with null for infinite numbers, which JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return value


def _key(event: Told) -> tuple[str, str, float]:
    return event.app, event.name, event.seconds


def _unreadable(what: str, error: Exception) -> RefusedError:
    return RefusedError(
        f"{what} cannot be read ({error!r}); another release of rayserve_par may have written it. "
        "Use that release, or deploy the application again."
    )


def _told(app: str, found: Mapping[str, Any]) -> ToldEvent:
    decision = found["decision"]
    options = [_part(Option, one) for one in decision.get("options") or ()]
    return ToldEvent(
        app=app,
        number=int(found["number"]),
        seconds=float(found["seconds"]),
        policy=str(found.get("policy", "")),
        before=int(found["before"]),
        wanted=int(decision["wanted"]),
        reason=str(decision.get("reason", "")),
        note=str(decision.get("note", "")),
        needed=decision.get("needed"),
        inputs=_part(Inputs, found.get("inputs")),
        options=tuple(one for one in options if one is not None),
        came_true=_part(CameTrue, found.get("came_true")),
        found=found,
    )


def _part(kind: type[_Part], found: Mapping[str, Any] | None) -> _Part | None:
    """A dataclass from its JSON; None where a field of it is not there."""
    if found is None:
        return None
    names = [field.name for field in fields(kind)]
    if any(name not in found for name in names):
        return None
    return kind(**{name: found[name] for name in names})
