"""What becomes of a decision: the operator's wish first, then whether enough is known. Pure.

overridden   the operator's number, within the limits; Serve keeps to them as well
paused       the number that there is
dry run      the number that there is; the decision is only written down
acting       the decision; never fewer than there are while an instance does not report, since
             an instance that says nothing may be full of requests
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from rayserve_par.control.decide.decision import Decision, Reason
from rayserve_par.control.decide.settings import Bounds
from rayserve_par.control.live.records import Mode, Override


@dataclass(frozen=True, slots=True)
class CarriedOut:
    """The number that Serve is told, under which mode, and what is to be said about it."""

    number: int
    mode: Mode
    decision: Decision
    problems: tuple[str, ...] = ()


def carry_out(
    decision: Decision,
    *,
    override: Override,
    dry_run: bool,
    target: int,
    bounds: Bounds,
    silent: tuple[str, ...],
    overdue: tuple[str, ...],
) -> CarriedOut:
    """Apply `override`, if it holds, `dry_run` of the config, and the rule about the `silent`.

    `overdue` are those of them whose report is late; the others have just started.
    """
    problems: list[str] = []
    if overdue:
        shown = ", ".join(overdue[:3]) + (" and more" if len(overdue) > 3 else "")
        problems.append(
            f"{len(overdue)} running instances do not report ({shown}): nothing is scaled down "
            "until they do."
        )
    if silent and decision.wanted < min(target, bounds.most):
        note = f"{decision.wanted} would do, but not all instances report; {decision.note}"
        kept = min(target, bounds.most)
        decision = replace(decision, wanted=kept, reason=Reason.HOLD, note=note)
    if override.instances is not None:
        number = bounds.clamp(override.instances)
        if number != override.instances:
            problems.append(
                f"the operator's {override.instances} instances are outside of {bounds.least} to "
                f"{bounds.most}: {number} it is. Change min_replicas, max_replicas or gpu_budget."
            )
        return CarriedOut(number, Mode.OVERRIDDEN, decision, tuple(problems))
    if override.paused:
        return CarriedOut(target, Mode.PAUSED, decision, tuple(problems))
    if dry_run or override.dry_run:
        return CarriedOut(target, Mode.DRY_RUN, decision, tuple(problems))
    return CarriedOut(decision.wanted, Mode.ACTING, decision, tuple(problems))
