"""The re-planner's decisions as text: each in a few lines, or one with all that is kept of it."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from rayserve_par.cli.operate.figures import date_text, duration_text, seconds_text, share_text
from rayserve_par.cli.operate.rows import grid

if TYPE_CHECKING:
    from rayserve_par.control.decide.prospect import Prospect
    from rayserve_par.control.decide.replan_events import ReplanEvent
    from rayserve_par.control.decide.replan_state import ReplanDecision

_CANDIDATES_SHOWN = 3


def render_replan(event: ReplanEvent, zone: datetime.tzinfo | None = None) -> RenderableType:
    """A decision in a few lines: change and reason, inputs, candidates, what came true."""
    return Group(_headline(event, zone), grid(_short_rows(event)))


def render_whole_replan(event: ReplanEvent, zone: datetime.tzinfo | None = None) -> RenderableType:
    """A decision with every candidate that is kept in a row of its own."""
    parts: list[RenderableType] = [_headline(event, zone), grid(_whole_rows(event))]
    if event.candidates:
        parts += [Text("\nconsidered", style="bold"), candidates_table(event.candidates)]
    return Group(*parts)


def replan_words(decision: ReplanDecision) -> str:
    """What is to be done, such as "change to 2 x TP2 by surge" or "keep"."""
    words = str(decision.action).replace("_", " ")
    if decision.choice is None or not decision.acts:
        return words
    way = f" by {str(decision.way).replace('_', ' ')}" if decision.way else ""
    return f"{words} to {decision.choice.label}{way}"


def replan_text(event: ReplanEvent) -> str:
    """A decision in a line, without its name and time."""
    decision = event.decision
    return f"{replan_words(decision)}{_done(event)}  {decision.why}: {decision.note}"


def candidates_table(
    candidates: Sequence[Prospect], notes: Sequence[str] | None = None
) -> RenderableType:
    """Layouts with what fits of them and what is predicted; `notes` stand behind each."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("  layout")
    for column in ("fits", "beside", "requests/s each", "TTFT", "TPOT"):
        table.add_column(column, justify="right")
    table.add_column("limits")
    table.add_column("")
    for index, one in enumerate(candidates):
        table.add_row(
            f"  {one.label} on {one.node_group}",
            str(one.room),
            str(one.beside),
            f"{one.requests_per_second:.3g}",
            seconds_text(one.ttft_seconds),
            seconds_text(one.tpot_seconds),
            _kept(one),
            notes[index] if notes else "",
        )
    return table


def _headline(event: ReplanEvent, zone: datetime.tzinfo | None) -> Text:
    decision = event.decision
    before = "" if event.before is None else f"{event.before.label}: "
    return Text.assemble(
        (f"#{event.name}", "bold"),
        f"  {date_text(event.seconds, zone)}  {event.app}  {before}",
        (replan_words(decision), "bold green" if decision.acts else "bold"),
        (_done(event), "yellow"),
        f"  {decision.why}",
        f": {decision.note}" if decision.note else "",
    )


def _done(event: ReplanEvent) -> str:
    return " (only advised)" if event.decision.acts and not event.carried_out else ""


def _short_rows(event: ReplanEvent) -> Iterator[tuple[str, str]]:
    yield "inputs", _inputs(event)
    if event.candidates:
        yield "considered", _few_candidates(event)
    if event.decision.acts:
        yield "predicted", _predicted(event)
    if event.awaited:
        yield "came true", _came_true(event)


def _whole_rows(event: ReplanEvent) -> Iterator[tuple[str, str]]:
    yield "policy", "re-planner"
    yield "inputs", _inputs(event)
    yield "predicted", _predicted(event)
    yield "came true", _came_true(event)


def _inputs(event: ReplanEvent) -> str:
    rate = event.requests_per_second
    load = "a load that nobody measures" if rate is None else f"{rate:.3g} requests/s"
    lengths = f"{event.isl:.0f} in, {event.osl:.0f} out"
    return f"{event.ready} ready on {event.cluster}; {load} of {lengths}"


def _few_candidates(event: ReplanEvent) -> str:
    shown = event.candidates[:_CANDIDATES_SHOWN]
    parts = [
        f"{one.label} on {one.node_group}: {one.room} fit, {one.beside} beside; {_expected(one)}"
        for one in shown
    ]
    hidden = len(event.candidates) - len(shown)
    if hidden:
        parts.append(f"and {hidden} more (--number {event.name})")
    return "\n".join(parts)


def _predicted(event: ReplanEvent) -> str:
    decision = event.decision
    parts = []
    if decision.predicted is not None:
        parts.append(_expected(decision.predicted))
    if decision.gain is not None:
        parts.append(f"{share_text(decision.gain)} better")
    if decision.cost_gpu_seconds is not None:
        parts.append(f"costs {decision.cost_gpu_seconds:,.0f} GPU-seconds")
    return "; ".join(parts) or "nothing"


def _expected(one: Prospect) -> str:
    return (
        f"{one.requests_per_second:.3g} requests/s each, TTFT {seconds_text(one.ttft_seconds)}, "
        f"TPOT {seconds_text(one.tpot_seconds)}, {_kept(one)} the limits"
    )


def _kept(one: Prospect) -> str:
    return "keeps" if one.excess <= 1 else "breaks"


def _came_true(event: ReplanEvent) -> str:
    came = event.came_true
    if came is None:
        return "not known yet" if event.awaited else "not measured: no layout was changed"
    after = f"after {duration_text(came.seconds - event.seconds)}: {came.ready} ready"
    if came.ttft_seconds is None or came.tpot_seconds is None:
        return f"{after}, nothing was measured"
    rate = came.requests_per_second
    load = "" if rate is None else f"{rate:.3g} requests/s, "
    return (
        f"{after}, {load}TTFT {seconds_text(came.ttft_seconds)}, "
        f"TPOT {seconds_text(came.tpot_seconds)}"
    )
