"""Decisions as text: each in a few lines, or one with all that is kept of it.

The re-planner's are told by `replan_view.py`.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from rayserve_par.cli.operate.figures import date_text, duration_text, seconds_text, share_text
from rayserve_par.cli.operate.replan_view import render_replan, render_whole_replan
from rayserve_par.cli.operate.rows import grid
from rayserve_par.control.decide.replan_events import ReplanEvent

if TYPE_CHECKING:
    from rayserve_par.control.decide.decision import Option
    from rayserve_par.control.decide.events import CameTrue, Inputs
    from rayserve_par.control.live.told import Told, ToldEvent

_OPTIONS_SHOWN = 4


def render_event(event: Told, zone: datetime.tzinfo | None = None) -> RenderableType:
    """An event in a few lines: change and reason, inputs, options, what came true."""
    if isinstance(event, ReplanEvent):
        return render_replan(event, zone)
    return Group(_headline(event, zone), grid(_short_rows(event)))


def render_whole_event(event: Told, zone: datetime.tzinfo | None = None) -> RenderableType:
    """An event with every option in a row of its own."""
    if isinstance(event, ReplanEvent):
        return render_whole_replan(event, zone)
    parts: list[RenderableType] = [_headline(event, zone), grid(_whole_rows(event))]
    if event.options:
        parts += [Text("\nconsidered", style="bold"), _options(event)]
    return Group(*parts)


def _headline(event: ToldEvent, zone: datetime.tzinfo | None) -> Text:
    change = "bold" if event.wanted == event.before else "bold green"
    return Text.assemble(
        (f"#{event.name}", "bold"),
        f"  {date_text(event.seconds, zone)}  {event.app}  ",
        (f"{event.before} -> {event.wanted}", change),
        f"  {event.reason}",
        f": {event.note}" if event.note else "",
    )


def _short_rows(event: ToldEvent) -> Iterable[tuple[str, str]]:
    if event.inputs is not None:
        yield "inputs", inputs_text(event.inputs)
    if event.options:
        yield "considered", _few_options(event)
    yield "came true", _came_true(event)


def _whole_rows(event: ToldEvent) -> Iterable[tuple[str, str]]:
    yield "policy", event.policy or "-"
    if event.needed is not None:
        yield "needed", f"{event.needed} by load and queues, before limits and margins"
    if event.inputs is not None:
        yield "inputs", inputs_text(event.inputs)
    predicted = event.predicted
    yield "predicted", "nothing for this number" if predicted is None else _expected(predicted)
    yield "came true", _came_true(event)


def inputs_text(inputs: Inputs) -> str:
    """The digest of what was known."""
    held = f", {inputs.held} held" if inputs.held else ""
    room = "" if inputs.room is None else f"; room for {inputs.room} more"
    return (
        f"{inputs.ready} ready, {inputs.starting} starting, {inputs.draining} draining; "
        f"{inputs.requests_per_second:.3g} requests/s of {inputs.isl:.0f} in, "
        f"{inputs.osl:.0f} out; {inputs.running} running, {inputs.waiting} waiting{held}; "
        f"KV {share_text(inputs.most_kv_use)} at most; "
        f"a start takes {duration_text(inputs.start_seconds)}{room}"
    )


def _expected(option: Option) -> str:
    verdict = "meets the target" if option.meets else "misses the target"
    return (
        f"TTFT {seconds_text(option.ttft_seconds)}, TPOT {seconds_text(option.tpot_seconds)}, "
        f"{share_text(option.utilisation)} busy, {verdict}"
    )


def _few_options(event: ToldEvent) -> str:
    """Those nearest to what was decided; --number shows all."""
    near = sorted(event.options, key=lambda one: abs(one.instances - event.wanted))
    shown = sorted(near[:_OPTIONS_SHOWN], key=lambda one: one.instances)
    parts = [f"{one.instances}: {_expected(one)}" for one in shown]
    hidden = len(event.options) - len(shown)
    if hidden:
        parts.append(f"and {hidden} more (--number {event.name})")
    return "\n".join(parts)


def _came_true(event: ToldEvent) -> str:
    came: CameTrue | None = event.came_true
    if came is None:
        return "not known yet"
    return (
        f"after {duration_text(came.seconds - event.seconds)}: {came.ready} ready, "
        f"{came.requests_per_second:.3g} requests/s, TTFT {seconds_text(came.ttft_seconds)}, "
        f"TPOT {seconds_text(came.tpot_seconds)}"
    )


def _options(event: ToldEvent) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("instances", "TTFT", "TPOT", "busy"):
        table.add_column(column, justify="right")
    table.add_column("target")
    table.add_column("")
    for one in event.options:
        table.add_row(
            str(one.instances),
            seconds_text(one.ttft_seconds),
            seconds_text(one.tpot_seconds),
            share_text(one.utilisation),
            Text("meets", style="green") if one.meets else Text("misses", style="red"),
            "decided" if one.instances == event.wanted else "",
        )
    return table
