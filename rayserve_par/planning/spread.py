"""How many instances of a layout the nodes of a group hold.

slots per node s = floor(gpus_per_node / tp)        TP groups that a node can hold
an instance has k = pp x dp TP groups, the group has N nodes

on one node (gpus <= gpus_per_node)   N x floor(s / k)
packed over nodes                     floor(N x s / k)
each TP group on its own node         floor(N x s / k) where N >= k, else 0

Where a TP group is wider than a node (NVL72: an NVLink domain spans D nodes), it takes w =
tp / gpus_per_node whole nodes of one domain, and an instance k x w nodes:

TP groups of all domains  S = floor(N / D) x floor(D / w) + floor((N mod D) / w)
instances                 floor(S / k)

Nodes are taken to fill domains one after the other; how they really lie, only the live cluster
tells (placement.fit counts by domains). An instance's nodes are all of one group.
"""

from dataclasses import dataclass
from math import ceil

from rayserve_par.errors import RefusedError
from rayserve_par.hardware.cluster import NodeGroup
from rayserve_par.planning.layout import Layout


@dataclass(frozen=True, slots=True)
class Spread:
    """A layout laid over the nodes of a group; a TP group is within a node or whole nodes."""

    layout: Layout
    group: NodeGroup
    across_nodes: bool

    @property
    def slots_per_node(self) -> int:
        """TP groups that one node can hold; 0 where a TP group is wider than a node."""
        return self.group.gpus_per_node // self.layout.tp

    @property
    def nodes_per_tp_group(self) -> int:
        """Nodes that one TP group touches: 1 but on NVLink domains over several nodes."""
        return ceil(self.layout.tp / self.group.gpus_per_node)

    @property
    def nodes_per_instance(self) -> int:
        """Nodes that one instance touches."""
        if self.across_nodes:
            return self.layout.tp_groups * self.nodes_per_tp_group
        return ceil(self.layout.tp_groups / self.slots_per_node)

    @property
    def gpus_taken(self) -> float:
        """GPUs of one instance, with those of its nodes that no other instance can use."""
        slots, groups = self.slots_per_node, self.layout.tp_groups
        if not slots:
            return self.layout.gpus
        if self.nodes_per_instance == 1:
            return self.group.gpus_per_node / (slots // groups)
        return groups * self.group.gpus_per_node / slots

    @property
    def slots(self) -> int:
        """TP groups that all nodes of the group hold."""
        if self.nodes_per_tp_group == 1:
            return self.group.nodes * self.slots_per_node
        domains, rest = divmod(self.group.nodes, self.group.nodes_per_domain)
        width = self.nodes_per_tp_group
        return domains * (self.group.nodes_per_domain // width) + rest // width

    @property
    def instances(self) -> int:
        """Instances that all nodes of the group hold."""
        groups = self.layout.tp_groups
        if self._on_one_node:
            return self.group.nodes * (self.slots_per_node // groups)
        if self.group.nodes < self.nodes_per_instance:
            return 0
        return self.slots // groups

    @property
    def arithmetic(self) -> str:
        """How `instances` comes about."""
        groups, nodes = self.layout.tp_groups, self.group.nodes
        if nodes < self.nodes_per_instance:
            return f"{self.nodes_per_instance} nodes per instance, {_counted(nodes, 'node')}"
        if self.nodes_per_tp_group > 1:
            return f"{self._domain_arithmetic}, / {groups} per instance = {self.instances}"
        slots = self.slots_per_node
        gpus = (
            f"{self.group.gpus_per_node} GPUs / TP {self.layout.tp} = "
            f"{_counted(slots, 'TP group')} a node"
        )
        if self._on_one_node:
            each = slots // groups
            return (
                f"{gpus} / {groups} per instance = {each}, x {_counted(nodes, 'node')} = "
                f"{each * nodes}"
            )
        return (
            f"{gpus}, x {_counted(nodes, 'node')} = {self.slots}, / {groups} per instance = "
            f"{self.instances}"
        )

    @property
    def _on_one_node(self) -> bool:
        return not self.across_nodes and self.layout.tp_groups <= self.slots_per_node

    @property
    def _domain_arithmetic(self) -> str:
        width, size = self.nodes_per_tp_group, self.group.nodes_per_domain
        domains, rest = divmod(self.group.nodes, size)
        parts = [
            f"TP {self.layout.tp} / {self.group.gpus_per_node} GPUs = {width} nodes a TP group"
        ]
        if domains:
            parts.append(
                f"{_counted(domains, 'NVLink domain')} of {size} nodes x floor({size} / {width}) = "
                f"{domains * (size // width)}"
            )
        if rest:
            parts.append(f"floor({_counted(rest, 'node')} / {width}) = {rest // width}")
        return f"{', '.join(parts)}: {_counted(self.slots, 'TP group')}"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def spread_of(layout: Layout, group: NodeGroup, across: str) -> Spread:
    """Lay `layout` over `group`: `across` is "auto" or "nodes" (every TP group on its own node).

    Raises RefusedError where a TP group fits neither a node nor whole nodes of an NVLink domain.
    """
    size = group.gpus_per_node
    if layout.tp > group.tp_limit:
        raise RefusedError(tp_too_wide(layout, group))
    if layout.tp > size and layout.tp % size:
        raise RefusedError(tp_not_whole_nodes(layout, group))
    fits_node = layout.gpus <= size
    one_group_per_node = layout.tp * 2 > size
    wants_spread = across == "nodes" or (not fits_node and one_group_per_node)
    several = layout.tp_groups > 1 or layout.tp > size
    return Spread(layout, group, across_nodes=wants_spread and several)


def tp_too_wide(layout: Layout, group: NodeGroup) -> str:
    """Why a TP group cannot be wider than the group's NVLink domain or node."""
    limit, size = group.tp_limit, group.gpus_per_node
    if limit == size:
        return f"TP {layout.tp} exceeds a node's {size} x {group.gpu.name}: {layout.tp} > {size}"
    return (
        f"TP {layout.tp} exceeds the NVLink domain of {group.gpu.name}: {layout.tp} > {limit} GPUs"
    )


def tp_not_whole_nodes(layout: Layout, group: NodeGroup) -> str:
    """Why a TP group over several nodes of a domain must take whole nodes."""
    size = group.gpus_per_node
    return (
        f"TP {layout.tp} over several nodes of an NVLink domain takes whole nodes: {layout.tp} / "
        f"{size} GPUs = {layout.tp / size:g} nodes"
    )
