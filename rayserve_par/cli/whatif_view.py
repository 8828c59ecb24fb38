"""Plans side by side: one column now, one for each change, and which reasons differ.

Numbers of a change carry their difference to now in per cent; a change after which nothing fits
has its refusal below the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from rayserve_par.cli.plan_numbers import dollars, number, requests_held
from rayserve_par.planning.plan import Plan


@dataclass(frozen=True, slots=True)
class Outcome:
    """A cluster and its plan, or why there is none."""

    label: str
    cluster: str
    plan: Plan | None
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class _Row:
    """One number of a plan: how to get it (None: not known) and how to write it."""

    name: str
    value: Callable[[Plan], float | None]
    written: Callable[[float], str] = number


_ROWS = (
    _Row("instances", lambda plan: plan.instances),
    _Row("GPUs used", lambda plan: plan.gpus),
    _Row("TTFT (ms)", lambda plan: 1e3 * plan.point.ttft_seconds),
    _Row("TPOT (ms)", lambda plan: 1e3 * plan.point.tpot_seconds),
    _Row("streams per instance", lambda plan: plan.point.streams),
    _Row("tokens/s", lambda plan: plan.tokens_per_second),
    _Row("tokens/s/GPU", lambda plan: plan.point.tokens_per_second_per_gpu),
    _Row("requests/s", lambda plan: plan.requests_per_second),
    _Row("KV tokens", lambda plan: plan.instances * plan.memory.kv_tokens_per_instance),
    _Row("requests that KV holds", lambda plan: plan.instances * requests_held(plan)),
    _Row("$/h", lambda plan: plan.dollars_per_hour, dollars),
    _Row("$/M tokens", lambda plan: plan.dollars_per_million_tokens, dollars),
)


def changed_reasons(now: Outcome, then: Outcome) -> tuple[list[str], list[str]]:
    """(reasons and warnings that are new, those that are gone)."""
    before, after = _said(now), _said(then)
    new = [line for line in after if line not in before]
    return new, [line for line in before if line not in after]


def _said(one: Outcome) -> tuple[str, ...]:
    if one.plan is None:
        return (one.refused or "",)
    return (*one.plan.reasons, *one.plan.warnings)


def render_outcomes(outcomes: Sequence[Outcome]) -> RenderableType:
    """The table, the reasons that changed, and the refusals. The first outcome is now."""
    now = outcomes[0]
    made = [one.plan for one in outcomes if one.plan]
    title = f"{made[0].model_name} at {made[0].workload.label}" if made else "Nothing fits"
    return Group(Text(title, style="bold"), _table(outcomes), *_below(now, outcomes))


def _table(outcomes: Sequence[Outcome]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("", overflow="fold")
    for one in outcomes:
        table.add_column(one.label, justify="right", overflow="fold")
    table.add_row("cluster", *(one.cluster.replace(",", ", ") for one in outcomes))
    table.add_row("layout", *(_layout(one) for one in outcomes))
    now = outcomes[0].plan
    for row in _ROWS:
        table.add_row(row.name, *(_cell(row, one.plan, now) for one in outcomes))
    return table


def _layout(one: Outcome) -> Text:
    if one.plan is None:
        return Text("does not fit", style="red")
    where = "" if one.plan.node_group.label == one.cluster else f" on {one.plan.node_group.label}"
    return Text(f"{one.plan.layout.label}{where}", style="bold green")


def _cell(row: _Row, plan: Plan | None, now: Plan | None) -> str:
    if plan is None:
        return "-"
    value = row.value(plan)
    if value is None:
        return dollars(None)
    before = None if now is None or now is plan else row.value(now)
    if not before or before == value:
        return row.written(value)
    return f"{row.written(value)} ({100 * (value / before - 1):+.0f}%)"


def _below(now: Outcome, outcomes: Sequence[Outcome]) -> Iterator[RenderableType]:
    if now.plan is None:
        yield from _list("now: does not fit", [("!", now.refused or "")])
    for one in outcomes[1:]:
        if one.plan is None:
            yield from _list(f"{one.label}: does not fit", [("!", one.refused or "")])
            continue
        new, gone = changed_reasons(now, one)
        shown = [("+", line) for line in new]
        if now.plan is not None:
            shown += [("-", line) for line in gone]
        title = f"{one.label}: reasons that changed" if shown else f"{one.label}: the same reasons"
        yield from _list(title, shown)


def _list(title: str, lines: Sequence[tuple[str, str]]) -> Iterator[RenderableType]:
    yield Text(f"\n{title}", style="bold")
    table = Table.grid(padding=(0, 1))
    table.add_column()
    table.add_column(overflow="fold")
    for mark, line in lines:
        style = {"+": "green", "-": "red"}.get(mark, "")
        table.add_row(Text(f" {mark}", style=style), Text(line))
    yield table
