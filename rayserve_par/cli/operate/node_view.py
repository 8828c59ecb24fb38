"""Nodes and their GPUs within a number of lines: the full picture, else a line for each node.

    node-0  ████░░░░  4 of 8 GPUs  chat#0 chat#1

A line has a block for each GPU, filled where a rank runs, and the instances on the node. Where even
these are too many, the nodes that are used most come first and the rest is counted.
"""

from __future__ import annotations

from collections.abc import Sequence

from rayserve_par.cli.operate.figures import count_text
from rayserve_par.placement.picture import Cells, NodeView, draw

_NAME_WIDTH = 16
_BLOCKS = 16


def nodes_text(nodes: Sequence[NodeView], cells: Cells, *, width: int, height: int) -> str:
    """The nodes in at most `height` lines (never below 2) of at most `width` columns."""
    picture = draw(nodes, cells, width)
    if picture.count("\n") < height:
        return picture
    used = {node.node_id: 0 for node in nodes}
    for node_id, _ in cells:
        used[node_id] = used.get(node_id, 0) + 1
    shown = list(nodes)
    if len(shown) > height:
        shown = sorted(nodes, key=lambda node: -used[node.node_id])[: max(1, height - 1)]
    names = max((min(_NAME_WIDTH, len(node.name)) for node in shown), default=0)
    lines = [_line(node, cells, names, width) for node in shown]
    drawn = {node.node_id for node in shown}
    rest = [node for node in nodes if node.node_id not in drawn]
    if rest:
        gpus = sum(node.gpus for node in rest)
        taken = sum(used[node.node_id] for node in rest)
        lines.append(f"and {count_text(len(rest), 'more node')}: {taken} of {gpus} GPUs used")
    return "\n".join(lines)


def _line(node: NodeView, cells: Cells, names: int, width: int) -> str:
    found = [cells.get((node.node_id, gpu)) for gpu in range(node.gpus)]
    blocks = "".join("░" if cell is None else "█" for cell in found)[:_BLOCKS]
    instances = dict.fromkeys(cell.instance for cell in found if cell is not None)
    used = sum(cell is not None for cell in found)
    text = (
        f"{_clip(node.name, names).ljust(names)}  {blocks}  {used} of "
        f"{count_text(node.gpus, 'GPU')}  {' '.join(instances)}"
    )
    return _clip(text.rstrip(), width)


def _clip(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
