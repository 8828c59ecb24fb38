"""`rayserve-par replan`: which layout every application should have now, and why."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.text import Text

from rayserve_par.cli.status_command import ADDRESS_HELP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rayserve_par.control.decide.replan_events import ReplanEvent
    from rayserve_par.control.decide.replan_state import ReplanDecision, ReplanState
    from rayserve_par.control.replanning.replanner import Outcome, Replanner

_SHOWN_EVENTS = 4
_LOOK_SECONDS = 2.0
_ROLL_OUT_SECONDS = 4 * 3600.0


def replan(
    app: Annotated[str | None, typer.Argument(help="One application; all of ours without.")] = None,
    address: Annotated[str | None, typer.Option(help=ADDRESS_HELP)] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Carry the decision out, without waiting times.")
    ] = False,
    allow_outage: Annotated[
        bool,
        typer.Option(
            "--allow-outage", help="Also where every instance has to stop before the new start."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead.")] = False,
) -> None:
    """Show which layout each application should have on the cluster as it is, and why.

    Nothing is changed without --apply. The waiting times of the controller (a cluster that has just
    changed, a change that was just made) do not count here.
    """
    from rayserve_par.cli.connect import connect
    from rayserve_par.control.decide.replan_settings import ReplanSettings
    from rayserve_par.control.replanning.replanner import Replanner
    from rayserve_par.control.serve_client import ServeClient

    connect(address)
    settings = ReplanSettings(
        settle_seconds=0.0,
        lost_settle_seconds=0.0,
        least_interval_seconds=0.0,
        allow_outage=allow_outage,
    )
    replanner = Replanner(ServeClient(), settings, time.time, dry_run=not apply)
    outcomes = replanner.look(app, keep=apply)
    console = Console(highlight=False)
    if as_json:
        console.print_json(data=[as_data(one) for one in outcomes])
    else:
        console.print(render(outcomes, _events([one.app for one in outcomes])))
    if any(one.carried_out for one in outcomes):
        _roll_out(console, replanner, app)


def _roll_out(console: Console, replanner: Replanner, app: str | None) -> None:
    """Look on until every roll-out has made its last step, as the controller would."""
    console.print("Rolling out (Ctrl-C leaves the rest to the controller or to the next call).")
    end = time.monotonic() + _ROLL_OUT_SECONDS
    while time.monotonic() < end:
        time.sleep(_LOOK_SECONDS)
        outcomes = replanner.look(app)
        if not any(one.carried_out or _rolls(one.decision) for one in outcomes):
            console.print("Rolled out.")
            return
    console.print(f"Not rolled out within {_ROLL_OUT_SECONDS:.0f} s; see `rayserve-par status`.")


def _rolls(decision: ReplanDecision | None) -> bool:
    return decision is None or decision.why == "rolling"


def _events(apps: Sequence[str]) -> tuple[ReplanEvent, ...]:
    from rayserve_par.control.live.store import read_replan
    from rayserve_par.control.live.told import told_replans

    found = (one for app in apps for one in told_replans(app, read_replan(app)))
    return tuple(sorted(found, key=lambda one: one.seconds))


def render(outcomes: Sequence[Outcome], events: Sequence[ReplanEvent] = ()) -> RenderableType:
    """Outcomes and the latest events as text."""
    from rayserve_par.cli.operate.replan_view import render_replan

    if not outcomes:
        return Text("No application of rayserve_par is deployed here.")
    parts: list[RenderableType] = []
    for one in outcomes:
        parts.append(Text(f"{one.app} ({one.mode})", style="bold"))
        if one.decision is None or one.state is None:
            parts.append(Text(f"  {one.problem or 'a decision was finished'}"))
            continue
        parts += [_candidates(one.state), Text(f"  {_sentence(one)}\n")]
    if events:
        parts.append(Text("Latest decisions", style="bold"))
        parts += [render_replan(one) for one in events[-_SHOWN_EVENTS:]]
    return Group(*parts)


def _candidates(state: ReplanState) -> RenderableType:
    from rayserve_par.cli.operate.replan_view import candidates_table

    listed, present = list(state.candidates), state.present
    if present and not any(one.same_as(present) for one in listed):
        listed.append(present)
    serve = f"now, {state.ready} of {state.target} serve"
    notes = [serve if present and one.same_as(present) else "" for one in listed]
    return candidates_table(listed, notes)


def _sentence(one: Outcome) -> str:
    from rayserve_par.cli.operate.replan_view import replan_words

    assert one.decision is not None, "only decisions are told"
    held = "not done: --apply" if one.mode == "dry_run" else f"not done: {one.mode}"
    done = "done" if one.carried_out else held
    more = f" ({done})" if one.decision.acts else ""
    return f"{replan_words(one.decision)}{more}. {one.decision.why}: {one.decision.note}"


def as_data(one: Outcome) -> dict[str, Any]:
    """An outcome as plain data for scripts."""
    from dataclasses import asdict

    return {
        "app": one.app,
        "mode": str(one.mode),
        "carried_out": one.carried_out,
        "problem": one.problem,
        "decision": None if one.decision is None else asdict(one.decision),
        "state": None if one.state is None else asdict(one.state),
    }
