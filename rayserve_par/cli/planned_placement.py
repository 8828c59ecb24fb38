"""Where the instances of a plan would go on the nodes of its group, as a picture's cells.

Which node Ray picks is Ray's to say; drawn is the first way that the strategy allows, filling
nodes and their GPUs from 0:

    STRICT_PACK     the first node with room for the whole instance
    STRICT_SPREAD   the emptiest nodes, one bundle each
    PACK            the first nodes with room, as many TP groups on each as it holds

Above 4 nodes only those of the first instance are drawn. A TP group wider than a node takes nodes
one after the other, which are of one NVLink domain as far as domains end between TP groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rayserve_par.placement.bundles import Placement, placement_for
from rayserve_par.placement.picture import CellText, NodeView
from rayserve_par.placement.verify import rank_cell
from rayserve_par.planning.plan import Plan

_NODES_DRAWN = 4


@dataclass(frozen=True, slots=True)
class PlannedPlacement:
    """What `placement.picture.draw` takes; `instances_shown` of the plan's are in it."""

    nodes: tuple[NodeView, ...]
    cells: Mapping[tuple[str, int], CellText]
    instances_shown: int


def planned_placement(plan: Plan) -> PlannedPlacement:
    """The nodes of the plan's group with the ranks of its instances on them."""
    group = plan.node_group
    placement = placement_for(
        plan.layout,
        across_nodes=plan.across_nodes,
        gpus_per_node=group.gpus_per_node,
        domain_gpus=group.tp_limit,
    )
    few = group.nodes <= _NODES_DRAWN
    node_count = group.nodes if few else plan.nodes_per_instance
    shown = plan.instances if few else 1
    used_gpus = [0] * node_count
    cells: dict[tuple[str, int], CellText] = {}
    for instance in range(shown):
        nodes = _nodes_of_bundles(placement, used_gpus, group.gpus_per_node)
        label = f"inst {instance}" if shown > 1 else ""
        for dp_rank in range(plan.layout.dp):
            for rank in range(plan.layout.ranks_per_dp_rank):
                node = nodes[placement.bundle_of(dp_rank, rank)]
                key = (_node_name(node), used_gpus[node])
                cells[key] = rank_cell(plan.layout, dp_rank, rank, label)
                used_gpus[node] += 1
    names = [_node_name(node) for node in range(node_count)]
    views = tuple(NodeView(name, name, group.gpus_per_node) for name in names)
    return PlannedPlacement(views, cells, shown)


def _node_name(node: int) -> str:
    return f"node {node}"


def _nodes_of_bundles(
    placement: Placement, used_gpus: Sequence[int], gpus_per_node: int
) -> list[int]:
    """The node of every bundle of one more instance; the plan holds, so there is room."""
    count = len(placement.bundles)
    slots = [(gpus_per_node - used) // placement.gpus_per_bundle for used in used_gpus]
    order = range(len(slots))
    if placement.strategy == "STRICT_PACK":
        return [next(node for node in order if slots[node] >= count)] * count
    if placement.strategy == "STRICT_SPREAD":
        return sorted(sorted(order, key=lambda node: -slots[node])[:count])
    return [node for node in order for _ in range(slots[node])][:count]
