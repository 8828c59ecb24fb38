"""Decisions as events: what was known, considered, decided and expected, and later what came true.

An event is a value; a log is one too, and holds a bounded number of events. The newest is last.
Decisions that repeat the one before (same number, same reason) are not logged again.

The digest of the inputs is what a person needs to see why: not the state itself, which may be
long. `came_true` is filled in by the first look at least a start later.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from rayserve_par.control.decide.decision import Decision, Option
from rayserve_par.control.decide.state import ModelState, Phase
from rayserve_par.errors import RefusedError

_RATE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Inputs:
    """The digest of a state. Rates in requests per second over the last minute."""

    ready: int
    starting: int
    draining: int
    running: int
    waiting: int
    held: int
    requests_per_second: float
    isl: float
    osl: float
    most_kv_use: float
    start_seconds: float
    room: int | None


@dataclass(frozen=True, slots=True)
class CameTrue:
    """What was measured a start after the decision; None where nothing ended."""

    seconds: float
    ready: int
    requests_per_second: float
    ttft_seconds: float | None
    tpot_seconds: float | None


@dataclass(frozen=True, slots=True)
class Event:
    """One decision with all that belongs to it. `number` counts from 1 and never repeats."""

    number: int
    seconds: float
    model: str
    policy: str
    before: int
    decision: Decision
    inputs: Inputs
    came_true: CameTrue | None = None

    @property
    def predicted(self) -> Option | None:
        """What was predicted for the number that was decided on, if it was among the options."""
        for option in self.decision.options:
            if option.instances == self.decision.wanted:
                return option
        return None

    def as_object(self) -> dict[str, Any]:
        """As JSON."""
        predicted = self.predicted
        return {**asdict(self), "predicted": None if predicted is None else asdict(predicted)}


@dataclass(frozen=True, slots=True)
class EventLog:
    """At most `capacity` events, oldest first, and how many there have been."""

    capacity: int = 1000
    events: tuple[Event, ...] = ()
    counted: int = 0

    def __post_init__(self) -> None:
        if self.capacity < 1:
            raise RefusedError(f"event log: a capacity of {self.capacity}; give at least 1.")

    def after(self, model: str, policy: str, state: ModelState, decision: Decision) -> EventLog:
        """The log once this decision was made about this state."""
        told = tuple(self._told(one, model, state) for one in self.events)
        last = next((one for one in reversed(told) if one.model == model), None)
        if last is not None and _same(last.decision, decision):
            return replace(self, events=told)
        number = self.counted + 1
        event = Event(
            number, state.now_seconds, model, policy, state.target, decision, inputs_of(state)
        )
        return EventLog(self.capacity, (*told, event)[-self.capacity :], number)

    def _told(self, event: Event, model: str, state: ModelState) -> Event:
        late = event.seconds + event.inputs.start_seconds
        if event.model != model or event.came_true is not None or state.now_seconds < late:
            return event
        came = CameTrue(
            seconds=state.now_seconds,
            ready=state.count(Phase.READY),
            requests_per_second=state.load.rate(_RATE_SECONDS),
            ttft_seconds=state.measured.ttft_seconds,
            tpot_seconds=state.measured.tpot_seconds,
        )
        return replace(event, came_true=came)


def inputs_of(state: ModelState) -> Inputs:
    """The digest of a state."""
    return Inputs(
        ready=state.count(Phase.READY),
        starting=state.count(Phase.STARTING),
        draining=state.count(Phase.DRAINING),
        running=sum(one.running for one in state.instances),
        waiting=sum(one.waiting for one in state.instances),
        held=state.held,
        requests_per_second=state.load.rate(_RATE_SECONDS),
        isl=state.load.isl,
        osl=state.load.osl,
        most_kv_use=max((one.kv_use for one in state.instances), default=0.0),
        start_seconds=state.start_seconds,
        room=state.room,
    )


def _same(before: Decision, after: Decision) -> bool:
    return before.wanted == after.wanted and before.reason is after.reason
