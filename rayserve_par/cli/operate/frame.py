"""One frame of `rayserve-par top`: a look at the cluster -> text of a given width and height.

    headline, applications with their controllers, instances, nodes x GPUs, what keys do

What does not fit is folded, never cut off in silence: nodes become lines, instances and
applications beyond the room that there is are counted. Applications with problems come first.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.text import Text

from rayserve_par.cli.operate.app_view import AppLines, headline, render_app
from rayserve_par.cli.operate.figures import clock_text, count_text, duration_text
from rayserve_par.cli.operate.instance_view import render_instances
from rayserve_par.cli.operate.node_view import nodes_text
from rayserve_par.control.live.overview import AppControl
from rayserve_par.control.live.told import finite

if TYPE_CHECKING:
    from rayserve_par.control.live.records import InstanceStatus
    from rayserve_par.control.observe import Observation
    from rayserve_par.control.serve_client import AppState

_LEAST_NODE_LINES = 3
_MOST_INSTANCE_ROWS = 12
_LATE_LOOK_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Look:
    """What was read at one moment, Unix seconds."""

    seen: Observation
    controls: Mapping[str, AppControl]
    seconds: float

    def control(self, app: str) -> AppControl:
        """What is kept of an application's controller."""
        return self.controls.get(app) or AppControl(app)


@dataclass(frozen=True, slots=True)
class Frame:
    """A look, when it is shown, and how large the terminal is. `error`: the latest look failed."""

    look: Look
    now_seconds: float
    width: int
    height: int | None = None
    error: str = ""
    live: bool = True
    zone: datetime.tzinfo | None = None


def render_frame(frame: Frame) -> RenderableType:
    """The frame; with `height` None as long as it needs to be."""
    seen, look = frame.look.seen, frame.look
    parts: list[RenderableType] = [_title(frame)]
    if frame.error:
        parts.append(Text(f"The latest look failed: {frame.error}", style="bold red"))
    left = None if frame.height is None else frame.height - _height(parts, frame.width)
    apps = [_lines(frame, state) for state in seen.apps]
    apps.sort(key=lambda lines: not _troubled(lines))
    if not apps:
        parts.append(Text("No application is deployed."))
    for part in _applications(apps, frame.width, left):
        parts.append(part)
    left = None if frame.height is None else frame.height - _height(parts, frame.width)
    instances = [
        (state.name, _aged(one, frame.now_seconds - status.seconds))
        for state in seen.apps
        if (status := look.control(state.name).status) is not None
        for one in status.instances
    ]
    nodes = seen.node_views
    if left is None:
        rows, node_lines = _MOST_INSTANCE_ROWS, 60
    else:
        full = nodes_text(nodes, seen.cells, width=frame.width, height=10_000)
        # Header and a blank line of each, and the count of what is folded.
        wanted = min(full.count("\n") + 1, max(_LEAST_NODE_LINES, left // 2))
        rows = max(1, min(_MOST_INSTANCE_ROWS, left - wanted - 4))
        table = min(rows, len(instances)) + 3 if instances else 0
        node_lines = left - table - 2
    if instances:
        parts += [Text(""), render_instances(instances, seen.names, rows)]
    if node_lines > 0:
        text = nodes_text(nodes, seen.cells, width=frame.width, height=node_lines)
        parts += [Text(""), Text(text, no_wrap=True, overflow="crop")]
    return Group(*parts)


def events_object(look: Look, last: int) -> dict[str, Any]:
    """The newest decisions about every application, oldest first, as JSON."""
    return {
        state.name: [finite(one.as_object()) for one in look.control(state.name).events[-last:]]
        for state in look.seen.apps
    }


def _aged(one: InstanceStatus, seconds: float) -> InstanceStatus:
    """An instance's report as old as it is by now, not when the status was written."""
    return replace(one, age_seconds=one.age_seconds + max(0.0, seconds))


def _title(frame: Frame) -> Text:
    seen = frame.look.seen
    nodes = seen.node_views
    gpus = sum(node.gpus for node in nodes)
    age = frame.now_seconds - frame.look.seconds
    text = Text.assemble(
        ("rayserve-par", "bold"),
        f"  {clock_text(frame.look.seconds, frame.zone)}",
        no_wrap=True,
        overflow="ellipsis",
    )
    if age > _LATE_LOOK_SECONDS:
        text.append(f"  LATE: looked {duration_text(age)} ago", "bold red")
    text.append(
        f"  {count_text(len(nodes), 'node')}, {len(seen.cells)} of {count_text(gpus, 'GPU')} used, "
        f"{count_text(len(seen.instances), 'instance')}"
    )
    if frame.live:
        text.append("  q leaves", "dim")
    return text


def _lines(frame: Frame, state: AppState) -> AppLines:
    return AppLines(
        state=state,
        control=frame.look.control(state.name),
        now_seconds=frame.now_seconds,
        # What was missing may be older than the rest of the look.
        missing="" if state.running else frame.look.seen.missing.get(state.name, ""),
        zone=frame.zone,
    )


def _troubled(lines: AppLines) -> bool:
    status = lines.control.status
    return (
        not lines.state.running
        or bool(lines.missing)
        or lines.control.stale(lines.now_seconds)
        or (status is not None and bool(status.problems))
    )


def _applications(apps: list[AppLines], width: int, left: int | None) -> list[RenderableType]:
    """Every application in full while there is room, then a line for each, then a count.

    One with problems is shown in full even where others then have no line.
    """
    parts: list[RenderableType] = []
    room = None if left is None else left - _LEAST_NODE_LINES - 1
    for index, lines in enumerate(apps):
        block = Group(Text(""), render_app(lines))
        needed = _height([block], width)
        after = len(apps) - index - 1
        others = 1 if _troubled(lines) and after else after
        if room is None or needed + others <= room:
            parts.append(block)
            room = None if room is None else room - needed
        elif room > 1 or (room == 1 and not after):
            line = headline(lines)
            line.no_wrap, line.overflow = True, "ellipsis"
            parts.append(line)
            room -= 1
        else:
            parts.append(Text(f"and {count_text(after + 1, 'more application')}", style="dim"))
            break
    return parts


def _height(parts: list[RenderableType], width: int) -> int:
    console = Console(width=width, color_system=None, force_terminal=False)
    return len(console.render_lines(Group(*parts), pad=False))
