"""A plan for people: rich renderables, made of nothing but the plan.

    headline, rule of thumb, reasons, what auto takes, refused layouts, memory, picture, warnings

The memory bar is one GPU of the fullest rank: weights, reserve, KV cache, and what
gpu_memory_utilization leaves to others; every part that is not empty has at least one column.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from rayserve_par.cli.planned_placement import planned_placement
from rayserve_par.hardware.gpu import GIB
from rayserve_par.placement.picture import WIDTH, draw
from rayserve_par.planning.choose import RefusedLayout
from rayserve_par.planning.plan import Plan
from rayserve_par.serving.config import AppArgs
from rayserve_par.sizing.rank_memory import RankMemory

_REFUSED_SHOWN = 3
_BAR_WIDTH = 60


def render_plan(plan: Plan, *, explain: bool = False) -> RenderableType:
    """The plan as text to print; `explain` adds every refused layout and the exact memory."""
    return Group(
        headline(plan),
        *_section("Rule of thumb", plan.sizing.lines),
        *_section("Why", _own_reasons(plan, plan.reasons)),
        *_section("What auto takes", _auto_lines(plan)),
        *_section("Layouts not taken", _refused_lines(plan.refused, explain=explain)),
        *_memory(plan.memory, explain=explain),
        *_picture(plan),
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
    if plan.across_nodes:
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


def memory_bar(memory: RankMemory, width: int = _BAR_WIDTH) -> Text:
    """One GPU's memory as a bar of `width` columns."""
    parts = (
        (memory.weight_bytes, "█", "blue"),
        (memory.reserve_bytes, "▓", "magenta"),
        (max(0.0, memory.kv_bytes), "▒", "green"),
        (memory.usable_bytes - memory.budget_bytes, "░", "bright_black"),
    )
    columns = _columns([part[0] for part in parts], width)
    bar = Text(no_wrap=True, overflow="crop")
    for (_, mark, style), count in zip(parts, columns, strict=True):
        bar.append(mark * count, style)
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


def _section(title: str, lines: Iterable[str], style: str = "") -> Iterator[RenderableType]:
    """A title and its lines as a list with hanging indents; nothing where there are none."""
    found = tuple(lines)
    if not found:
        return
    yield Text(f"\n{title}", style="bold")
    table = Table.grid(padding=(0, 1))
    table.add_column()
    table.add_column(overflow="fold")
    for line in found:
        table.add_row(Text(" -"), Text(line, style=style))
    yield table


def _own_reasons(plan: Plan, reasons: Iterable[str]) -> tuple[str, ...]:
    """Reasons without the lines that other sections show."""
    elsewhere = {f"not {one.layout.label}: {one.reasons[0]}" for one in plan.refused}
    elsewhere.update(plan.sizing.lines)
    return tuple(line for line in reasons if line not in elsewhere)


def _auto_lines(plan: Plan) -> tuple[str, ...]:
    if not plan.explicit:
        return ()
    why = _own_reasons(plan, plan.auto_reasons)
    if plan.auto is None:
        return ("nothing: no layout passes the rule of thumb here", *why)
    same = "the same, " if plan.auto == plan.layout else ""
    return (f"{same}{plan.auto.label} = {_count(plan.auto.gpus, 'GPU')} per instance", *why)


def _refused_lines(refused: tuple[RefusedLayout, ...], *, explain: bool) -> Iterator[str]:
    for one in refused if explain else refused[:_REFUSED_SHOWN]:
        yield f"{one.layout.label}: {'; '.join(one.reasons if explain else one.reasons[:1])}"
    hidden = len(refused) - _REFUSED_SHOWN
    if hidden > 0 and not explain:
        yield f"and {hidden} more (--explain shows all)"


def _memory(memory: RankMemory, *, explain: bool) -> Iterator[RenderableType]:
    rank = f"stage {memory.stage} of {memory.stages}" if memory.stages > 1 else "every rank alike"
    yield Text(f"\nMemory of the fullest rank ({rank})", style="bold")
    yield Text.assemble("   ", memory_bar(memory))
    left = memory.usable_bytes - memory.budget_bytes
    yield Text.assemble(
        "   ",
        ("█", "blue"),
        f" weights {memory.weight_bytes / GIB:.1f}  ",
        ("▓", "magenta"),
        f" reserve {memory.reserve_bytes / GIB:.1f}  ",
        ("▒", "green"),
        f" KV cache {memory.kv_bytes / GIB:.1f}  ",
        ("░", "bright_black"),
        f" not used {left / GIB:.1f}  of {memory.usable_bytes / GIB:.1f} GiB",
    )
    tokens = f"   KV cache of an instance: {_count(memory.kv_tokens_per_instance, 'token')}"
    if memory.dp > 1:
        tokens += f" ({memory.dp} DP ranks x {memory.kv_tokens:,})"
    yield Text(tokens)
    if explain:
        yield from _section("Exact memory", memory.lines)


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
    yield Text(f"\n{title}", style="bold")
    yield _Drawing(plan)
