"""How many instances of a layout the nodes of a group hold.

slots per node s = floor(gpus_per_node / tp)        TP groups that a node can hold
an instance has k = pp x dp TP groups, the group has N nodes

on one node (gpus <= gpus_per_node)   N x floor(s / k)
packed over nodes                     floor(N x s / k)
each TP group on its own node         floor(N x s / k) where N >= k, else 0
"""

from dataclasses import dataclass
from math import ceil

from rayserve_par.errors import RefusedError
from rayserve_par.hardware.cluster import NodeGroup
from rayserve_par.planning.layout import Layout


@dataclass(frozen=True, slots=True)
class Spread:
    """A layout laid over the nodes of a group; `layout.tp` is at most gpus_per_node."""

    layout: Layout
    group: NodeGroup
    across_nodes: bool

    @property
    def slots_per_node(self) -> int:
        """TP groups that one node can hold."""
        return self.group.gpus_per_node // self.layout.tp

    @property
    def nodes_per_instance(self) -> int:
        """Nodes that one instance touches."""
        if self.across_nodes:
            return self.layout.tp_groups
        return ceil(self.layout.tp_groups / self.slots_per_node)

    @property
    def instances(self) -> int:
        """Instances that all nodes of the group hold."""
        slots, groups, nodes = self.slots_per_node, self.layout.tp_groups, self.group.nodes
        if not self.across_nodes and groups <= slots:
            return nodes * (slots // groups)
        if nodes < self.nodes_per_instance:
            return 0
        return nodes * slots // groups

    @property
    def arithmetic(self) -> str:
        """How `instances` comes about."""
        slots, groups, nodes = self.slots_per_node, self.layout.tp_groups, self.group.nodes
        per_node = "TP group" if slots == 1 else "TP groups"
        gpus = f"{self.group.gpus_per_node} GPUs / TP {self.layout.tp} = {slots} {per_node} a node"
        if not self.across_nodes and groups <= slots:
            each = slots // groups
            return f"{gpus} / {groups} per instance = {each}, x {_nodes(nodes)} = {each * nodes}"
        if nodes < self.nodes_per_instance:
            return f"{self.nodes_per_instance} nodes per instance, {_nodes(nodes)}"
        return (
            f"{gpus}, x {_nodes(nodes)} = {nodes * slots}, / {groups} per instance = "
            f"{nodes * slots // groups}"
        )


def _nodes(count: int) -> str:
    return "1 node" if count == 1 else f"{count} nodes"


def spread_of(layout: Layout, group: NodeGroup, across: str) -> Spread:
    """Lay `layout` over `group`: `across` is "auto" or "nodes" (every TP group on its own node).

    Raises RefusedError where a TP group does not fit a node.
    """
    if layout.tp > group.gpus_per_node:
        raise RefusedError(
            f"TP {layout.tp} exceeds a node's {group.gpus_per_node} x {group.gpu.name}."
        )
    fits_node = layout.gpus <= group.gpus_per_node
    one_group_per_node = layout.tp * 2 > group.gpus_per_node
    wants_spread = across == "nodes" or (not fits_node and one_group_per_node)
    return Spread(layout, group, across_nodes=wants_spread and layout.tp_groups > 1)
