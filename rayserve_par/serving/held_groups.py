"""What the placement groups of Serve's replicas hold now, and wait for, from Ray's own table.

Serve names a replica's group after the replica, `SERVE_REPLICA::APP#DEPLOYMENT#ID`, so that those
of instances which are still starting are seen too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import ray

from rayserve_par.placement.fit import NodeState
from rayserve_par.placement.packing import Shape

# PENDING holds nothing yet, and REMOVED nothing any more.
_HOLDING = ("CREATED", "PREPARED", "RESCHEDULING")
_OVER = "REMOVED"
_PREFIX = "SERVE_REPLICA::"


@dataclass(frozen=True, slots=True)
class HeldGroup:
    """GPUs and CPUs by node id that one replica's placement group holds."""

    gpus: Mapping[str, float]
    cpus: Mapping[str, float]

    @property
    def gpus_held(self) -> float:
        """On all nodes."""
        return sum(self.gpus.values())


@dataclass(frozen=True, slots=True)
class ReplicaGroup:
    """One replica's group: what it holds, and its shape. `placed` once it has all of it."""

    app: str
    replica: str
    placed: bool
    shape: Shape
    held: HeldGroup


def groups_of(app: str) -> tuple[HeldGroup, ...]:
    """Every group that a replica of the application holds."""
    return tuple(
        _held(group)
        for group in ray.util.placement_group_table().values()
        if group["name"].startswith(f"{_PREFIX}{app}#") and group["state"] in _HOLDING
    )


def gpu_groups() -> tuple[ReplicaGroup, ...]:
    """Every group with GPUs of a Serve replica, of all applications; pending ones too."""
    found = []
    for group in ray.util.placement_group_table().values():
        gpus = [bundle.get("GPU", 0) for bundle in group["bundles"].values()]
        parts = group["name"].removeprefix(_PREFIX).rsplit("#", 2)
        ours = group["name"].startswith(_PREFIX) and len(parts) == 3
        if not ours or group["state"] == _OVER or not any(gpus):
            continue
        shape = Shape(max(gpus), sum(one > 0 for one in gpus), group["strategy"])
        placed = group["state"] == "CREATED"
        found.append(ReplicaGroup(parts[0], parts[2], placed, shape, _held(group)))
    return tuple(found)


def _held(group: Mapping[str, Any]) -> HeldGroup:
    gpus: Counter[str] = Counter()
    cpus: Counter[str] = Counter()
    for index, bundle in group["bundles"].items():
        node = group["bundles_to_node_id"].get(index)
        if node:
            gpus[node] += bundle.get("GPU", 0)
            cpus[node] += bundle.get("CPU", 0)
    return HeldGroup(gpus, cpus)


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
