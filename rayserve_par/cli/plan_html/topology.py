"""Nodes and their GPUs, each with the instance and rank that would run on it."""

from __future__ import annotations

from markupsafe import Markup

from rayserve_par.cli.plan_html.svg import box, element, picture, text
from rayserve_par.cli.planned_placement import planned_placement
from rayserve_par.placement.picture import CellText, NodeView
from rayserve_par.planning.plan import Plan

_WIDTH = 860.0
_CELL_WIDTH, _GAP = 96.0, 6.0
_PAD, _TITLE = 10.0, 24.0
_GPUS_PER_ROW = 8
_LINE = 15.0
_COLOURS = 7


def topology(plan: Plan) -> Markup:
    """The nodes that the drawn instances take, as many side by side as the width holds."""
    planned = planned_placement(plan)
    names = list(dict.fromkeys(cell.instance for cell in planned.cells.values()))
    colours = {name: f"c{index % _COLOURS}" for index, name in enumerate(names)}
    across = min(_GPUS_PER_ROW, plan.node_group.gpus_per_node)
    cell_width = min(_CELL_WIDTH, (_WIDTH - 2 * _PAD + _GAP) / across - _GAP)
    width = across * (cell_width + _GAP) - _GAP + 2 * _PAD
    lines = max((len(cell.lines) for cell in planned.cells.values()), default=1)
    tall = _LINE * (1 + lines) + 6
    rows = -(-plan.node_group.gpus_per_node // across)
    height = _TITLE + rows * (tall + _GAP) + _PAD
    per_row = max(1, int((_WIDTH + _GAP) // (width + _GAP)))
    drawn = []
    for index, node in enumerate(planned.nodes):
        left = index % per_row * (width + _GAP)
        top = index // per_row * (height + _GAP)
        drawn.append(box(left + 1, top + 1, width - 2, height - 2, "node"))
        drawn.append(text(_title(node, plan), left + _PAD, top + 17, class_="tick"))
        for gpu in range(node.gpus):
            cell = planned.cells.get((node.node_id, gpu))
            x = left + _PAD + gpu % across * (cell_width + _GAP)
            y = top + _TITLE + gpu // across * (tall + _GAP)
            drawn.append(_cell(x, y, (cell_width, tall), gpu, cell, colours))
    bands = -(-len(planned.nodes) // per_row)
    return picture(_WIDTH, bands * (height + _GAP), "Nodes and GPUs of the plan", *drawn)


def _title(node: NodeView, plan: Plan) -> str:
    return f"{node.name}: {node.gpus} x {plan.node_group.gpu.name}"


def _cell(
    x: float,
    y: float,
    size: tuple[float, float],
    gpu: int,
    cell: CellText | None,
    colours: dict[str, str],
) -> Markup:
    lines = (f"GPU {gpu}", *(cell.lines if cell else ("free",)))
    colour = f"gpu {colours[cell.instance]}" if cell else "gpu free"
    texts = [
        text(
            shown,
            x + size[0] / 2,
            y + 16 + number * _LINE,
            class_="small" if number else "cell",
            anchor="middle",
        )
        for number, shown in enumerate(lines)
    ]
    return element("g", box(x, y, *size, colour), *texts)
