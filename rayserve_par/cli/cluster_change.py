"""A cluster with nodes added or taken away, for `rayserve-par whatif`.

A node belongs to the group of the same GPU and the same number of GPUs; of several such groups
added nodes go to the first, and are taken from the last. GPUs that the cluster states itself (its
prices, its links) are meant where it names them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rayserve_par.errors import RefusedError
from rayserve_par.hardware.catalogue import Catalogue, shipped_catalogue
from rayserve_par.hardware.cluster import Cluster, NodeGroup, group_name, parse_cluster


@dataclass(frozen=True, slots=True)
class Change:
    """What is done to a cluster at once: nodes in, nodes out, and what that is called."""

    label: str
    added: tuple[NodeGroup, ...] = ()
    removed: tuple[NodeGroup, ...] = ()

    def on(self, cluster: Cluster) -> Cluster | None:
        """The cluster after it; None where no node is left.

        Raises RefusedError where nodes are taken that are not there.
        """
        groups = list(cluster.node_groups)
        for more in self.added:
            _add(groups, more)
        for fewer in self.removed:
            _remove(groups, fewer, cluster)
        return Cluster(tuple(groups)) if groups else None


def changes_on(
    cluster: Cluster,
    *,
    add: Sequence[str] = (),
    remove: Sequence[str] = (),
    add_gpus: Sequence[int] = (),
    together: bool = False,
) -> tuple[Change, ...]:
    """The changes that are asked for; one of all of them where they are meant `together`.

    Raises RefusedError for text that is no hardware, and for GPUs that are not whole nodes.
    """
    known = _catalogue_of(cluster)
    found = [Change(f"+ {text}", added=parse_cluster(text, known).node_groups) for text in add]
    found += [
        Change(f"- {text}", removed=parse_cluster(text, known).node_groups) for text in remove
    ]
    found += [_more_gpus(cluster, count) for count in add_gpus]
    if not together or len(found) < 2:
        return tuple(found)
    return (
        Change(
            " ".join(one.label for one in found),
            added=tuple(group for one in found for group in one.added),
            removed=tuple(group for one in found for group in one.removed),
        ),
    )


def _catalogue_of(cluster: Cluster) -> Catalogue:
    """The shipped GPUs, and over them those of the cluster; of two alike the first group's."""
    known = shipped_catalogue()
    for group in reversed(cluster.node_groups):
        known = known.with_gpu(group.gpu)
    return known


def _more_gpus(cluster: Cluster, count: int) -> Change:
    if len(cluster.node_groups) > 1:
        names = ", ".join(group.label for group in cluster.node_groups)
        raise RefusedError(
            f"--add-gpus {count}: the cluster has several kinds of nodes ({names}). Say which: "
            "--add NODESxGPUSxNAME."
        )
    group = cluster.node_groups[0]
    size = group.gpus_per_node
    if count < 1 or count % size:
        raise RefusedError(
            f"--add-gpus {count}: nodes of {group.label} have {size} GPUs, and {count} / {size} = "
            f"{count / size:g} nodes. Give a multiple of {size}."
        )
    return Change(f"+ {count} GPUs", added=(replace(group, nodes=count // size),))


def _alike(group: NodeGroup, other: NodeGroup) -> bool:
    return (group.gpu.name, group.gpus_per_node) == (other.gpu.name, other.gpus_per_node)


def _add(groups: list[NodeGroup], more: NodeGroup) -> None:
    for index, group in enumerate(groups):
        if _alike(group, more):
            groups[index] = replace(group, nodes=group.nodes + more.nodes)
            return
    taken = {group.name for group in groups}
    name = group_name(more.gpu, groups)
    while name in taken:
        name += "-added"
    groups.append(replace(more, name=name))


def _remove(groups: list[NodeGroup], fewer: NodeGroup, cluster: Cluster) -> None:
    there = sum(group.nodes for group in groups if _alike(group, fewer))
    if there < fewer.nodes:
        raise RefusedError(
            f"--remove {fewer.label}: {fewer.nodes} nodes of {fewer.gpus_per_node} x "
            f"{fewer.gpu.name} are to go, and of {cluster.label} {there} are such: "
            f"{fewer.nodes} - {there} = {fewer.nodes - there} missing. Remove at most "
            "what is there."
        )
    left = fewer.nodes
    for group in reversed(list(groups)):
        if not left or not _alike(group, fewer):
            continue
        gone = min(left, group.nodes)
        left -= gone
        index = groups.index(group)
        if gone == group.nodes:
            del groups[index]
        else:
            groups[index] = replace(group, nodes=group.nodes - gone)
