"""What a policy asks of the book of all applications at a look, and what it is answered."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rayserve_par.control.decide.decision import Decision, Reason
from rayserve_par.control.live.settings import LiveSettings
from rayserve_par.control.live.view import ServeView
from rayserve_par.placement.packing import Shape


@dataclass(frozen=True, slots=True)
class Ask:
    """One application at a look: Serve aims at `target`, its policy wants `wanted` within `most`.

    `misses` says that it misses its latency target with what it has. `ran` are instances that ran
    at some time, `running` those that do. One that does not `claim` (a dry run, a pause) is
    answered, and counts for nobody.
    """

    app: str
    gpu: str
    shape: Shape
    priority: int
    target: int
    most: int
    wanted: int
    misses: bool
    spare: int
    running: frozenset[str]
    ran: frozenset[str]
    claims: bool
    look_seconds: float


@dataclass(frozen=True, slots=True)
class Answer:
    """`given` more may be started now, `note` says why not more.

    `waits`: the next look will tell. `gives_up`: one of those that there are goes.
    """

    given: int
    note: str = ""
    waits: bool = False
    gives_up: bool = False


_MISSES = (Reason.FORECAST, Reason.BACKLOG, Reason.FROM_ZERO, Reason.AT_MAX)


def ask_of(
    settings: LiveSettings,
    view: ServeView,
    decision: Decision,
    ran: frozenset[str],
    *,
    acting: bool,
) -> Ask:
    """What a decision that knows of no free GPUs asks for; without `acting` it claims nothing."""
    return Ask(
        app=view.app,
        gpu=settings.gpu,
        shape=Shape.of(settings.placement),
        priority=settings.priority,
        target=view.target,
        most=settings.scale.bounds.most,
        wanted=decision.wanted,
        misses=decision.wanted > view.target and decision.reason in _MISSES,
        spare=decision.spare,
        running=frozenset(view.running),
        ran=ran,
        claims=acting,
        look_seconds=settings.scale.look_seconds,
    )


def answered(decision: Decision, answer: Answer, target: int) -> Decision:
    """The decision, with what the book says to it."""
    if answer.gives_up:
        note = f"{answer.note}; {decision.note}"
        return replace(decision, wanted=target - 1, reason=Reason.GAVE_UP, note=note)
    if decision.reason is Reason.NO_ROOM and answer.note:
        reason = Reason.WAITS if answer.waits else Reason.NO_ROOM
        return replace(decision, reason=reason, note=f"{answer.note}; {decision.note}")
    return decision
