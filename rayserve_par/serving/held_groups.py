"""What the placement groups of one application's replicas hold now, from Ray's own table.

Serve names a replica's group after the replica, `SERVE_REPLICA::APP#DEPLOYMENT#ID`, so that those
of instances which are still starting are seen too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import ray

from rayserve_par.placement.fit import NodeState

# PENDING holds nothing yet, and REMOVED nothing any more.
_HOLDING = ("CREATED", "PREPARED", "RESCHEDULING")


@dataclass(frozen=True, slots=True)
class HeldGroup:
    """GPUs and CPUs by node id that one replica's placement group holds."""

    gpus: Mapping[str, float]
    cpus: Mapping[str, float]

    @property
    def gpus_held(self) -> float:
        """On all nodes."""
        return sum(self.gpus.values())


def groups_of(app: str) -> tuple[HeldGroup, ...]:
    """Every group that a replica of the application holds."""
    found = []
    for group in ray.util.placement_group_table().values():
        ours = group["name"].startswith(f"SERVE_REPLICA::{app}#")
        if not ours or group["state"] not in _HOLDING:
            continue
        gpus: Counter[str] = Counter()
        cpus: Counter[str] = Counter()
        for index, bundle in group["bundles"].items():
            node = group["bundles_to_node_id"].get(index)
            if node:
                gpus[node] += bundle.get("GPU", 0)
                cpus[node] += bundle.get("CPU", 0)
        found.append(HeldGroup(gpus, cpus))
    return tuple(found)


def freed(nodes: Iterable[NodeState], groups: Iterable[HeldGroup]) -> list[NodeState]:
    """`nodes` as they are once these groups are gone."""
    held = tuple(groups)
    return [
        replace(
            node,
            gpus_free=min(
                node.gpus_total,
                node.gpus_free + sum(one.gpus.get(node.node_id, 0) for one in held),
            ),
            cpus_free=node.cpus_free + sum(one.cpus.get(node.node_id, 0) for one in held),
        )
        for node in nodes
    ]
