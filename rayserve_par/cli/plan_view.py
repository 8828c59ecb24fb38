"""A plan for people: rich renderables.

    headline, predictions, why, rule of thumb, what auto takes, memory, placement, runner-ups,
    refused layouts, warnings; `explain` adds the exact memory, the times, and all that is cut short

A memory bar is one GPU of a PP stage: weights, activations, the rest of the reserve (runtime,
graphs, collectives), KV cache, and what gpu_memory_utilization leaves to others; every part that is
not empty has at least one column.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from rayserve_par.cli.plan_explain import time_lines
from rayserve_par.cli.plan_numbers import (
    ERROR_NOTE,
    RUNNER_UP_COLUMNS,
    layout_rows,
    predicted_lines,
)
from rayserve_par.cli.planned_placement import planned_placement
from rayserve_par.hardware.gpu import GIB
from rayserve_par.placement.picture import WIDTH, draw
from rayserve_par.planning.legality import RefusedLayout
from rayserve_par.planning.pareto import plan_stages
from rayserve_par.planning.performance import Constants
from rayserve_par.planning.plan import Plan
from rayserve_par.serving.config import AppArgs
from rayserve_par.sizing.compare import beside_rule
from rayserve_par.sizing.rank_memory import RankMemory

if TYPE_CHECKING:
    from rayserve_par.model.spec import ModelSpec

_REFUSED_SHOWN = 3
_RUNNER_UPS_SHOWN = 5
_STAGES_SHOWN = 4
_BAR_WIDTH = 60


@dataclass(frozen=True, slots=True)
class MemoryPart:
    """One part of a rank's memory, and how it is drawn."""

    name: str
    size_bytes: float
    mark: str
    style: str


def render_plan(
    plan: Plan,
    *,
    explain: bool = False,
    model: ModelSpec | None = None,
    constants: Constants | None = None,
    notes: Sequence[str] = (),
) -> RenderableType:
    """The plan as text to print.

    With `model` there is a memory bar for every PP stage, else one for the fullest; `constants` are
    those that the plan was made with, `notes` stand beside the predictions.
    """
    stages = plan_stages(model, plan) if model else (plan.memory,)
    return Group(
        headline(plan),
        *_predicted(plan, notes),
        *_section("Why", _own_reasons(plan, plan.reasons)),
        *_section("Rule of thumb", plan.sizing.lines),
        *_section("What auto takes", _auto_lines(plan)),
        *_memory(plan, stages),
        *_picture(plan),
        *_runner_ups(plan, explain=explain),
        *_section("Layouts refused", _refused_lines(plan.refused, explain=explain)),
        *(_explained(plan, constants) if explain else ()),
        *_section("Warnings", plan.warnings, style="yellow"),
    )


def headline(plan: Plan) -> Text:
    """Model, layout, GPUs, instances and nodes in one line."""
    gpu, layout = plan.node_group.gpu.name, plan.layout
    each = "each " if plan.instances > 1 else ""
    text = Text.assemble(
        (plan.model_name, "bold"),
        ": ",
        (layout.label, "bold green"),
        f" on {plan.node_group.label}, ",
        (_count(plan.instances, "instance"), "bold"),
        f", {each}{layout.gpus} x {gpu} on {_count(plan.nodes_per_instance, 'node')}",
    )
    if layout.tp > plan.node_group.gpus_per_node:
        nodes = layout.tp // plan.node_group.gpus_per_node
        text.append(f", every TP group on {nodes} nodes of one NVLink domain")
    elif plan.across_nodes:
        text.append(", every TP group on a node of its own")
    return text


def autoscaling_line(args: AppArgs, plan: Plan) -> str | None:
    """Autoscaling's bounds against what the plan's nodes hold; None without autoscaling."""
    if args.autoscaling is None:
        return None
    least, most = args.autoscaling.min_replicas, args.autoscaling.max_replicas
    line = f"Autoscaling from {least} to {most} instances; the plan's nodes hold {plan.instances}."
    if most > plan.instances:
        line += f" Above {plan.instances} new ones wait until nodes are added."
    return line


def memory_parts(memory: RankMemory) -> tuple[MemoryPart, ...]:
    """One GPU's memory in parts that add up to what is usable."""
    reserve = memory.reserve
    return (
        MemoryPart("weights", memory.weight_bytes, "█", "blue"),
        MemoryPart("activations", reserve.activation_bytes, "▓", "magenta"),
        MemoryPart("rest", reserve.total_bytes - reserve.activation_bytes, "▚", "cyan"),
        MemoryPart("KV cache", max(0.0, memory.kv_bytes), "▒", "green"),
        MemoryPart("not used", memory.usable_bytes - memory.budget_bytes, "░", "bright_black"),
    )


def memory_bar(memory: RankMemory, width: int = _BAR_WIDTH) -> Text:
    """One GPU's memory as a bar of `width` columns."""
    parts = memory_parts(memory)
    columns = _columns([part.size_bytes for part in parts], width)
    bar = Text(no_wrap=True, overflow="crop")
    for part, count in zip(parts, columns, strict=True):
        bar.append(part.mark * count, part.style)
    return bar


def _columns(sizes: list[float], width: int) -> list[int]:
    """Whole columns in proportion, one at least for what is not 0; they add up to `width`."""
    total = sum(sizes)
    columns = [max(1, round(width * size / total)) if size > 0 else 0 for size in sizes]
    largest = max(range(len(sizes)), key=lambda part: columns[part])
    columns[largest] += width - sum(columns)
    return columns


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _title(text: str) -> Text:
    return Text(f"\n{text}", style="bold")


def _section(title: str, lines: Iterable[str], style: str = "") -> Iterator[RenderableType]:
    """A title and its lines as a list with hanging indents; nothing where there are none."""
    found = tuple(lines)
    if not found:
        return
    yield _title(title)
    table = Table.grid(padding=(0, 1))
    table.add_column()
    table.add_column(overflow="fold")
    for line in found:
        table.add_row(Text(" -"), Text(line, style=style))
    yield table


def _predicted(plan: Plan, notes: Sequence[str]) -> Iterator[RenderableType]:
    yield _title(f"Predicted at {plan.workload.label}")
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for line in predicted_lines(plan):
        table.add_row(Text(f"   {line.name}"), Text(line.value, style="bold"), Text(line.more))
    yield table
    for note in (ERROR_NOTE, *notes):
        yield Text(f"   ({note})", style="dim")


def _own_reasons(plan: Plan, reasons: Iterable[str]) -> tuple[str, ...]:
    """Reasons without the lines that other sections show."""
    elsewhere = set(plan.sizing.lines)
    return tuple(line for line in reasons if line not in elsewhere)


def _auto_lines(plan: Plan) -> tuple[str, ...]:
    if not plan.explicit:
        return ()
    why = _own_reasons(plan, plan.auto_reasons)
    if plan.auto is None:
        return ("nothing: no layout fits here", *why)
    same = "the same, " if plan.auto == plan.layout else ""
    return (f"{same}{plan.auto.label} = {_count(plan.auto.gpus, 'GPU')} per instance", *why)


def _memory(plan: Plan, stages: Sequence[RankMemory]) -> Iterator[RenderableType]:
    alike = len({memory_bar(stage).plain for stage in stages}) == 1
    shown = [plan.memory] if alike else list(stages)
    if len(shown) > _STAGES_SHOWN:
        shown = list(dict.fromkeys((shown[0], plan.memory, shown[-1])))
    every = "every rank alike" if plan.memory.stages == 1 else "a rank of every stage"
    if len(shown) == 1 and plan.memory.stages > 1:
        every = f"fullest rank: stage {plan.memory.stage} of {plan.memory.stages}"
    yield _title(f"Memory of a rank ({every})")
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for memory in shown:
        name = f"   stage {memory.stage}" if len(shown) > 1 else "  "
        table.add_row(Text(name), _Bar(memory))
        table.add_row(Text(""), _legend(memory))
    yield table
    if len(shown) < len(stages) and len(shown) > 1:
        yield Text(f"   and {len(stages) - len(shown)} stages between (--html shows all)")
    memory = plan.memory
    tokens = f"   KV cache of an instance: {_count(memory.kv_tokens_per_instance, 'token')}"
    if memory.dp > 1:
        tokens += f" ({memory.dp} DP ranks x {memory.kv_tokens:,})"
    yield Text(tokens)


@dataclass(frozen=True, slots=True)
class _Bar:
    """A memory bar at the width that is there."""

    memory: RankMemory

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        del console
        yield memory_bar(
            self.memory, max(len(memory_parts(self.memory)), min(_BAR_WIDTH, options.max_width))
        )


def _legend(memory: RankMemory) -> Text:
    text = Text()
    for part in memory_parts(memory):
        text.append(part.mark, part.style)
        text.append(f" {part.name} {part.size_bytes / GIB:.1f}  ")
    text.append(f"of {memory.usable_bytes / GIB:.1f} GiB")
    return text


@dataclass(frozen=True, slots=True)
class _Drawing:
    """The picture at the width of the console."""

    plan: Plan

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        del console
        planned = planned_placement(self.plan)
        width = min(WIDTH, options.max_width)
        yield Text(draw(planned.nodes, planned.cells, width), no_wrap=True, overflow="crop")


def _picture(plan: Plan) -> Iterator[RenderableType]:
    shown = planned_placement(plan).instances_shown
    title = "Placement"
    if shown < plan.instances:
        title += f" of the first of {plan.instances} instances"
    yield _title(title)
    yield _Drawing(plan)


def _runner_ups(plan: Plan, *, explain: bool) -> Iterator[RenderableType]:
    rows = layout_rows(plan)
    if len(rows) == 1:
        return
    yield _title("Layouts compared: the one taken, then those within the limits")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for number, column in enumerate(RUNNER_UP_COLUMNS):
        table.add_column(column, justify="right" if number else "left", overflow="fold")
    shown = rows if explain else rows[: _RUNNER_UPS_SHOWN + 1]
    for number, row in enumerate(shown):
        table.add_row(*row, style="" if number else "bold")
    yield table
    if len(shown) < len(rows):
        yield Text(f"   and {len(rows) - len(shown)} more (--explain shows all)")


def _refused_lines(refused: tuple[RefusedLayout, ...], *, explain: bool) -> Iterator[str]:
    for one in refused if explain else refused[:_REFUSED_SHOWN]:
        yield f"{one.layout.label}: {'; '.join(one.reasons if explain else one.reasons[:1])}"
    hidden = len(refused) - _REFUSED_SHOWN
    if hidden > 0 and not explain:
        yield f"and {hidden} more (--explain shows all)"


def _explained(plan: Plan, constants: Constants | None) -> Iterator[RenderableType]:
    beside = beside_rule(plan.sizing, plan.memory, plan.layout.gpus)
    yield from _section("Rule of thumb beside exact sizing", beside)
    yield from _section("Exact memory", plan.memory.lines)
    yield from _section("Times", time_lines(plan, constants))
