"""Re-planning decisions as events: what was known, considered, decided, and what came true.

The log is a value and holds a bounded number of events, the newest last. A decision that repeats
the one before (same action, reason, choice) is not logged again, nor is one that only waits.
`came_true` is filled in once what was decided serves, with the means measured since.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from rayserve_par.control.decide.prospect import Choice, Prospect
from rayserve_par.control.decide.replan_state import (
    ReplanDecision,
    ReplanMemory,
    ReplanState,
    Why,
)

_KEPT = 100
_SHOWN_CANDIDATES = 6
_WAITING = (Why.ROLLING, Why.TRIAL, Why.SETTLING, Why.TOO_SOON)


@dataclass(frozen=True, slots=True)
class ReplanCameTrue:
    """What was there once a decision was carried out; None where nothing was measured."""

    seconds: float
    ready: int
    requests_per_second: float | None
    ttft_seconds: float | None
    tpot_seconds: float | None


@dataclass(frozen=True, slots=True)
class ReplanEvent:
    """One decision with its inputs. `number` counts from 1 and never repeats."""

    number: int
    seconds: float
    app: str
    cluster: str
    before: Choice | None
    ready: int
    requests_per_second: float | None
    isl: float
    osl: float
    decision: ReplanDecision
    candidates: tuple[Prospect, ...]
    carried_out: bool
    came_true: ReplanCameTrue | None = None

    @property
    def name(self) -> str:
        """What it is called beside the scaling policy's events, which have plain numbers."""
        return f"r{self.number}"

    @property
    def awaited(self) -> bool:
        """Whether what came true is, or will be, filled in: a layout was changed."""
        return self.carried_out and self.decision.changes_layout

    def as_object(self) -> dict[str, Any]:
        """As JSON, but for numbers without end."""
        predicted = self.decision.predicted
        return {
            "log": "replan",
            "name": self.name,
            **asdict(self),
            "predicted": None if predicted is None else asdict(predicted),
        }


@dataclass(frozen=True, slots=True)
class ReplanLog:
    """At most a hundred events, oldest first, and how many there have been."""

    events: tuple[ReplanEvent, ...] = ()
    counted: int = 0

    def after(
        self,
        app: str,
        state: ReplanState,
        memory: ReplanMemory,
        decision: ReplanDecision,
        *,
        carried_out: bool,
    ) -> ReplanLog:
        """The log once this was decided; `memory` is the one after the decision."""
        told = tuple(_told(one, state, memory) for one in self.events)
        waits = decision.why in _WAITING
        if waits or (told and _same(told[-1], decision, carried_out)):
            return replace(self, events=told)
        number = self.counted + 1
        event = ReplanEvent(
            number=number,
            seconds=state.now_seconds,
            app=app,
            cluster=state.cluster,
            before=state.present.choice(state.target) if state.present else None,
            ready=state.ready,
            requests_per_second=state.rate,
            isl=state.isl,
            osl=state.osl,
            decision=decision,
            candidates=state.candidates[:_SHOWN_CANDIDATES],
            carried_out=carried_out,
        )
        return ReplanLog((*told, event)[-_KEPT:], number)


def _same(event: ReplanEvent, decision: ReplanDecision, carried_out: bool) -> bool:
    before = event.decision
    return (before.action, before.why, before.choice, event.carried_out) == (
        decision.action,
        decision.why,
        decision.choice,
        carried_out,
    )


def _told(event: ReplanEvent, state: ReplanState, memory: ReplanMemory) -> ReplanEvent:
    choice = event.decision.choice
    rolled_out = (
        event.awaited
        and event.came_true is None
        and choice is not None
        and state.present is not None
        and choice.is_of(state.present)
        and not state.rolling
        and memory.trial is None
        and not memory.rolling_out
    )
    if not rolled_out:
        return event
    window = memory.window if memory.window and memory.window.weight else None
    return replace(
        event,
        came_true=ReplanCameTrue(
            seconds=state.now_seconds,
            ready=state.ready,
            requests_per_second=window.requests_per_second if window else None,
            ttft_seconds=window.ttft_seconds if window else None,
            tpot_seconds=window.tpot_seconds if window else None,
        ),
    )
