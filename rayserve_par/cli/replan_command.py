"""`rayserve-par replan`: which layout every application should have now, and why."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from rayserve_par.cli.status_command import ADDRESS_HELP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rayserve_par.control.decide.replan_events import ReplanEvent
    from rayserve_par.control.decide.replan_state import ReplanDecision, ReplanState
    from rayserve_par.control.replanning.replanner import Outcome, Replanner

_SHOWN_EVENTS = 8
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


def _events(apps: Sequence[str]) -> list[ReplanEvent]:
    from rayserve_par.control.live.store import read_replan
    from rayserve_par.control.replanning.record import ReplanRecord

    records = [ReplanRecord.from_object(read_replan(app)) for app in apps]
    return sorted((one for record in records for one in record.log.events), key=lambda e: e.seconds)


def render(outcomes: Sequence[Outcome], events: Sequence[ReplanEvent] = ()) -> RenderableType:
    """Outcomes and the latest events as text."""
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
        table = Table("when (UTC)", "application", "decision", "why", "came true", box=None)
        for event in list(events)[-_SHOWN_EVENTS:]:
            decision = event.decision
            done = "" if event.carried_out or not decision.acts else " (only advised)"
            table.add_row(
                datetime.fromtimestamp(event.seconds, UTC).strftime("%m-%d %H:%M:%S"),
                event.app,
                f"{_words(decision)}{done}",
                f"{decision.why}: {decision.note}",
                _came_true(event),
            )
        parts += [Text("Latest decisions", style="bold"), table]
    return Group(*parts)


def _candidates(state: ReplanState) -> Table:
    table = Table(
        "  layout",
        "fits",
        "beside",
        "requests/s each",
        "TTFT",
        "TPOT",
        "",
        box=None,
        pad_edge=False,
    )
    listed = list(state.candidates)
    if state.present and not any(one.same_as(state.present) for one in listed):
        listed.append(state.present)
    for one in listed:
        now = state.present is not None and one.same_as(state.present)
        table.add_row(
            f"  {one.label} on {one.node_group}",
            str(one.room),
            str(one.beside),
            f"{one.requests_per_second:.3g}",
            f"{1e3 * one.ttft_seconds:.0f} ms",
            f"{1e3 * one.tpot_seconds:.1f} ms",
            f"now, {state.ready} of {state.target} serve" if now else "",
        )
    return table


def _sentence(one: Outcome) -> str:
    assert one.decision is not None, "only decisions are told"
    held = "not done: --apply" if one.mode == "dry_run" else f"not done: {one.mode}"
    done = "done" if one.carried_out else held
    more = f" ({done})" if one.decision.acts else ""
    return f"{_words(one.decision)}{more}. {one.decision.why}: {one.decision.note}"


def _words(decision: ReplanDecision) -> str:
    words = str(decision.action).replace("_", " ")
    if decision.choice is None or not decision.acts:
        return words
    way = f" by {str(decision.way).replace('_', ' ')}" if decision.way else ""
    return f"{words} to {decision.choice.label}{way}"


def _came_true(event: ReplanEvent) -> str:
    came = event.came_true
    if came is None:
        return ""
    after = f"{came.seconds - event.seconds:.0f} s later {came.ready} ready"
    if came.ttft_seconds is None or came.tpot_seconds is None:
        return after
    return f"{after}, TTFT {1e3 * came.ttft_seconds:.0f} ms, TPOT {1e3 * came.tpot_seconds:.1f} ms"


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
