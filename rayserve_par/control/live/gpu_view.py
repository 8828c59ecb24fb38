"""The cluster's GPUs at one moment: what is free on which nodes, and which replica holds what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from rayserve_par.placement.fit import NodeState
from rayserve_par.serving.cluster_view import gpu_kinds, live_nodes
from rayserve_par.serving.held_groups import ReplicaGroup, gpu_groups


@dataclass(frozen=True, slots=True)
class GpuView:
    """`kinds` are the GPUs' names by node id, `groups` those of every application of Serve."""

    nodes: tuple[NodeState, ...] = ()
    kinds: Mapping[str, str] | None = None
    groups: tuple[ReplicaGroup, ...] = ()

    def of_kind(self, gpu: str) -> tuple[NodeState, ...]:
        """The nodes with GPUs of this name; every node where kinds are not known."""
        kinds = self.kinds
        return tuple(one for one in self.nodes if kinds is None or kinds.get(one.node_id) == gpu)


def read_gpu_view() -> GpuView:
    """From Ray's tables.

    The groups are read first: one that gets its place meanwhile counts twice, and not never.
    """
    groups = gpu_groups()
    return GpuView(tuple(not_more_free(live_nodes(), groups)), gpu_kinds(), groups)


def not_more_free(nodes: Iterable[NodeState], groups: Iterable[ReplicaGroup]) -> list[NodeState]:
    """Free GPUs without those of `groups`, of which nodes may not have told yet."""
    held = [one.held.gpus for one in groups]
    return [
        replace(
            node,
            gpus_free=min(
                node.gpus_free,
                max(0.0, node.gpus_total - sum(one.get(node.node_id, 0.0) for one in held)),
            ),
        )
        for node in nodes
    ]
