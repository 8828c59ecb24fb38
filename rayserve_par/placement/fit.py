"""Whether a cluster's nodes hold so many instances, before Ray is asked.

    slots of a node s_i = floor(GPUs / GPUs per bundle);  k TP groups per instance, m instances

    STRICT_PACK     sum of floor(s_i / k) >= m
    PACK            sum of s_i >= m x k
    STRICT_SPREAD   sum of min(s_i, m) >= m x k     a node takes one bundle of an instance

These are exact, since all bundles ask for the same GPUs (for STRICT_SPREAD by Gale and Ryser).
Where a TP group takes w > 1 bundles (NVL72), each a whole node and all in one NVLink domain, with
n_d nodes of domain d that have a slot:

    STRICT_SPREAD   sum over domains of floor(n_d / w) >= m x k

They are checked for the nodes' totals, and apart from that for what is free now. Bundle 0 also
needs a CPU: with STRICT_PACK a node takes as many instances as it has free CPUs; with the others
min(s_i, CPUs) summed over nodes must reach m, which is necessary but not sufficient.
Left out: memory and custom resources.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rayserve_par.errors import RefusedError
from rayserve_par.placement.bundles import Placement

_SHOWN_NODES = 8


@dataclass(frozen=True, slots=True)
class NodeState:
    """What Ray says of one node. `nvlink_domain` names the domain that all its GPUs are in."""

    node_id: str
    name: str
    gpus_total: float
    gpus_free: float
    cpus_free: float
    nvlink_domain: str


def capacity(placement: Placement, slots: Sequence[int]) -> int:
    """Instances that nodes with so many TP-group slots each can hold."""
    groups = placement.layout.tp_groups
    if placement.strategy == "STRICT_PACK":
        return sum(count // groups for count in slots)
    instances = sum(slots) // groups
    if placement.strategy == "STRICT_SPREAD":
        while sum(min(count, instances) for count in slots) < instances * groups:
            instances -= 1
    return instances


def capacity_by_domain(placement: Placement, slots: Sequence[int], domains: Sequence[str]) -> int:
    """`capacity` of nodes with their NVLink domains, for TP groups of one or several bundles."""
    width = placement.bundles_per_tp_group
    if width == 1:
        return capacity(placement, slots)
    nodes = Counter(domain for domain, count in zip(domains, slots, strict=True) if count)
    return sum(count // width for count in nodes.values()) // placement.layout.tp_groups


def _slots(placement: Placement, gpus: float) -> int:
    return int(gpus // placement.gpus_per_bundle)


def _room(placement: Placement, nodes: Sequence[NodeState], slots: Sequence[int]) -> int:
    return capacity_by_domain(placement, slots, [node.nvlink_domain for node in nodes])


def _free_slots(placement: Placement, node: NodeState) -> int:
    slots = _slots(placement, node.gpus_free)
    if placement.strategy != "STRICT_PACK":
        return slots
    return min(slots, int(node.cpus_free) * placement.layout.tp_groups)


def _rule(placement: Placement) -> str:
    layout, width = placement.layout, placement.bundles_per_tp_group
    if width > 1:
        return (
            f"{layout.tp_groups} x {width} nodes of {placement.gpus_per_bundle} GPUs each, every "
            f"{width} of them in one NVLink domain"
        )
    if placement.strategy == "STRICT_PACK":
        return f"{layout.gpus} GPUs on one node each"
    if placement.strategy == "STRICT_SPREAD":
        return f"{layout.tp} GPUs on each of {layout.tp_groups} different nodes each"
    return f"{layout.tp_groups} x {layout.tp} GPUs each, no {layout.tp} of them over two nodes"


def _listed(parts: Sequence[str]) -> str:
    more = len(parts) - _SHOWN_NODES
    return ", ".join(parts[:_SHOWN_NODES]) + (f" and {more} more" if more > 0 else "")


def _by_domain(placement: Placement, nodes: Sequence[NodeState]) -> str:
    """Nodes of every domain, where TP groups are wider than a node."""
    if placement.bundles_per_tp_group == 1:
        return ""
    counts = Counter(node.nvlink_domain for node in nodes)
    return f"nodes by NVLink domain: {_listed([f'{name} {n}' for name, n in counts.items()])}; "


def _check_totals(placement: Placement, nodes: Sequence[NodeState], instances: int) -> None:
    layout, need = placement.layout, instances * placement.layout.gpus
    have = sum(node.gpus_total for node in nodes)
    shown = _listed([f"{node.name} {node.gpus_total:g}" for node in nodes])
    largest = max(nodes, key=lambda node: node.gpus_total)
    bundle = placement.gpus_per_bundle
    if _slots(placement, largest.gpus_total) == 0:
        what = "a TP group" if placement.bundles_per_tp_group == 1 else "a TP group's share"
        raise RefusedError(
            f"{layout.label}: no node holds {what} of {bundle} GPUs: the largest, "
            f"{largest.name}, has {largest.gpus_total:g} < {bundle} (GPUs by node: {shown}). "
            "Use a smaller TP, or larger nodes."
        )
    if need > have:
        raise RefusedError(
            f"{instances} x {layout.label} need {instances} x {layout.gpus} = {need} GPUs; the "
            f"cluster has {have:g}: {need - have:g} missing (GPUs by node: {shown}). Add nodes, or "
            "ask for fewer instances."
        )
    slots = [_slots(placement, node.gpus_total) for node in nodes]
    usable = sum(count > 0 for count in slots)
    wanted = len(placement.bundles)
    if placement.strategy == "STRICT_SPREAD" and usable < wanted:
        wide = placement.bundles_per_tp_group > 1
        own = "over whole nodes" if wide else "with each TP group on its own node"
        less = "use a smaller TP" if wide else "do not ask for it across nodes"
        raise RefusedError(
            f"{layout.label} {own} needs {wanted} nodes with {bundle} GPUs; the cluster has "
            f"{usable}: {wanted - usable} missing (GPUs by node: {shown}). Add nodes, or {less}."
        )
    room = _room(placement, nodes, slots)
    if room < instances:
        raise RefusedError(
            f"{instances} x {layout.label} need {_rule(placement)}; the cluster's nodes hold "
            f"{room} of the {instances} ({_by_domain(placement, nodes)}GPUs by node: {shown}). "
            "Add nodes, or ask for fewer."
        )


def _check_free(placement: Placement, nodes: Sequence[NodeState], instances: int) -> None:
    layout, need = placement.layout, instances * placement.layout.gpus
    room = _room(placement, nodes, [_free_slots(placement, node) for node in nodes])
    short = [
        f"{node.name} {node.gpus_free:g} of {node.gpus_total:g} GPUs and {node.cpus_free:g} CPUs"
        for node in nodes
        if node.gpus_free < node.gpus_total or node.cpus_free < 1
    ]
    if room < instances:
        free = sum(node.gpus_free for node in nodes)
        raise RefusedError(
            f"{instances} x {layout.label} need {_rule(placement)} ({need} GPUs) and a CPU each; "
            f"what is free now ({free:g} GPUs) holds {room}. Free: {_listed(short)}. Stop what "
            "uses them, or add nodes."
        )
    heads = sum(min(_slots(placement, node.gpus_free), int(node.cpus_free)) for node in nodes)
    if heads < instances:
        raise RefusedError(
            f"{instances} x {layout.label} need a free CPU beside bundle 0 of each instance; the "
            f"nodes with free GPUs have CPUs for {heads}. Free: {_listed(short)}. Give the nodes "
            "CPUs, or ask for fewer instances."
        )


def check_fit(placement: Placement, nodes: Sequence[NodeState], instances: int) -> None:
    """Return where `nodes` hold `instances` instances; raise RefusedError with the numbers if not.

    Totals are judged first, so that the message tells a cluster that is too small from one that
    is busy. Nodes without GPUs are left aside.
    """
    if instances < 1:
        raise RefusedError(f"instances is {instances}; it must be at least 1.")
    with_gpus = [node for node in nodes if node.gpus_total > 0]
    if not with_gpus:
        raise RefusedError(
            f"{placement.layout.label} needs {placement.layout.gpus} GPUs; none of the cluster's "
            f"{len(nodes)} nodes has a GPU. Start nodes with GPUs."
        )
    _check_totals(placement, with_gpus, instances)
    _check_free(placement, with_gpus, instances)


def free_room(placement: Placement, nodes: Sequence[NodeState]) -> int:
    """How many further instances fit what is free on `nodes` now; 0 where none does."""
    with_gpus = [node for node in nodes if node.gpus_total > 0]
    slots = [_free_slots(placement, node) for node in with_gpus]
    heads = sum(min(_slots(placement, one.gpus_free), int(one.cpus_free)) for one in with_gpus)
    return min(_room(placement, with_gpus, slots), heads)
