"""Nodes and their GPUs as text, with what runs on each.

    node-0: 1 of 2 GPUs used
    ┌─────────┬───────┐
    │ GPU 0   │ GPU 1 │
    │ smol#0  │ free  │
    │ stage 0 │       │
    │ rank 0  │       │
    └─────────┴───────┘

A node is a box of at most 8 GPUs a row; boxes stand side by side while they fit the width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WIDTH = 100
_GPUS_PER_ROW = 8
_LEAST_TEXT = 7
_FREE_NODES_SHOWN = 4


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node to draw."""

    name: str
    node_id: str
    gpus: int


@dataclass(frozen=True, slots=True)
class CellText:
    """What runs on a GPU: instance ("smol#0"), place in it ("stage 0", "DP 1") and rank."""

    instance: str
    place: str
    rank: str

    @property
    def lines(self) -> tuple[str, ...]:
        """The lines of the cell, empty ones left out."""
        return tuple(line for line in (self.instance, self.place, self.rank) if line)


Cells = Mapping[tuple[str, int], CellText]


def _clip(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _row(columns: Sequence[Sequence[str]], texts: int) -> list[str]:
    """One row of boxes without its top border."""
    height = max(len(column) for column in columns)
    lines = []
    for index in range(height):
        cells = [
            _clip(column[index] if index < len(column) else "", texts).ljust(texts)
            for column in columns
        ]
        lines.append("│ " + " │ ".join(cells) + " │")
    return lines


def _border(count: int, texts: int, marks: str) -> str:
    return marks[0] + marks[1].join("─" * (texts + 2) for _ in range(count)) + marks[2]


def _box(node: NodeView, cells: Cells, width: int) -> list[str]:
    used = sum((node.node_id, gpu) in cells for gpu in range(node.gpus))
    title = _clip(f"{node.name}: {used} of {node.gpus} GPUs used", width)
    if node.gpus == 0:
        return [title]
    columns = []
    for gpu in range(node.gpus):
        cell = cells.get((node.node_id, gpu))
        columns.append([f"GPU {gpu}", *(cell.lines if cell else ("free",))])
    per_row = min(node.gpus, _GPUS_PER_ROW)
    while per_row > 1 and (width - 1) // per_row - 3 < _LEAST_TEXT:
        per_row -= 1
    rows = -(-node.gpus // per_row)
    per_row = -(-node.gpus // rows)
    widest = max(len(line) for column in columns for line in column)
    texts = min(widest, max(_LEAST_TEXT, (width - 1) // per_row - 3))
    lines = [title]
    for start in range(0, node.gpus, per_row):
        part = columns[start : start + per_row]
        lines.append(_border(len(part), texts, "┌┬┐"))
        lines += _row(part, texts)
        lines.append(_border(len(part), texts, "└┴┘"))
    return lines


def _side_by_side(boxes: Sequence[Sequence[str]], width: int) -> list[str]:
    lines: list[str] = []
    row: list[Sequence[str]] = []

    def flush() -> None:
        height = max((len(box) for box in row), default=0)
        widths = [max(len(line) for line in box) for box in row]
        for index in range(height):
            parts = [
                (box[index] if index < len(box) else "").ljust(size)
                for box, size in zip(row, widths, strict=True)
            ]
            lines.append("  ".join(parts).rstrip())
        row.clear()

    for box in boxes:
        taken = sum(max(len(line) for line in one) + 2 for one in row)
        if row and taken + max(len(line) for line in box) > width:
            flush()
        row.append(box)
    flush()
    return lines


def draw(nodes: Sequence[NodeView], cells: Cells, width: int = WIDTH) -> str:
    """The nodes in order, each GPU with its cell or "free"; at most `width` columns wide.

    Of nodes that are wholly free the first four are drawn and the rest counted. A cell on a node
    or GPU that is not in `nodes` is listed below, so that nothing is lost from the picture.
    """
    busy = {node_id for node_id, _ in cells}
    free = [node for node in nodes if node.node_id not in busy]
    hidden = {node.node_id for node in free[_FREE_NODES_SHOWN:]}
    boxes = [_box(node, cells, width) for node in nodes if node.node_id not in hidden]
    lines = _side_by_side(boxes, width)
    if hidden:
        gpus = sum(node.gpus for node in nodes if node.node_id in hidden)
        lines.append(f"and {len(hidden)} more nodes wholly free ({gpus} GPUs)")
    drawn = {(node.node_id, gpu) for node in nodes for gpu in range(node.gpus)}
    for (node_id, gpu), cell in cells.items():
        if (node_id, gpu) not in drawn:
            lines.append(f"elsewhere: node {node_id} GPU {gpu}: {', '.join(cell.lines)}")
    return "\n".join(lines)
