"""How many worker pods a config needs; one pod is one node's GPUs.

    nodes(n)    = the fewest nodes of the plan's group that hold n instances (planning/spread.py)
    replicas    = nodes(instances at the start, 1 at least: planning reads a living node)
    minReplicas = replicas
    maxReplicas = nodes(autoscaling's max_replicas), at most the nodes that the config's hardware
                  names; replicas without autoscaling

Several applications of one config add up: none is assumed to share another's nodes. On several
kinds of nodes there are worker pods of each, for applications that keep to one (`node_group`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rayserve_par.errors import RefusedError
from rayserve_par.hardware.cluster import NodeGroup
from rayserve_par.planning.plan import Plan
from rayserve_par.planning.spread import Spread
from rayserve_par.serving.app import wanted_replicas
from rayserve_par.serving.config import AppArgs


@dataclass(frozen=True, slots=True)
class PlannedApp:
    """An application of the config with its plan."""

    name: str
    args: AppArgs
    plan: Plan


@dataclass(frozen=True, slots=True)
class WorkerCount:
    """Worker pods of one kind: `group` is the node that each stands for."""

    group: NodeGroup
    replicas: int
    max_replicas: int

    @property
    def scales(self) -> bool:
        """Whether the cluster autoscaler has anything to do."""
        return self.max_replicas > self.replicas


def worker_counts(apps: Sequence[PlannedApp]) -> tuple[WorkerCount, ...]:
    """Worker pods for all applications, by kind of node in the order of the applications.

    Raises RefusedError where they need different kinds of nodes and do not keep to them, more nodes
    than the hardware has, or nodes whose GPUs are logical.
    """
    by_kind: dict[tuple[str, int], list[PlannedApp]] = {}
    for app in apps:
        group = app.plan.node_group
        by_kind.setdefault((group.gpu.name, group.gpus_per_node), []).append(app)
    if len(by_kind) > 1:
        found = ", ".join(f"{app.name}: {app.plan.node_group.label}" for app in apps)
        if any(app.args.node_group is None for app in apps):
            raise RefusedError(
                f"The applications need different kinds of nodes ({found}), and nothing keeps each "
                "of them to its own. Give each a node_group, its GPU's name."
            )
        if len({gpu for gpu, _ in by_kind}) < len(by_kind):
            raise RefusedError(
                f"The applications need nodes of one kind of GPU in two sizes ({found}), which "
                "their labels do not tell apart. Plan them on nodes of one size."
            )
    return tuple(_worker_count(found) for found in by_kind.values())


def _worker_count(apps: Sequence[PlannedApp]) -> WorkerCount:
    group = apps[0].plan.node_group
    if group.gpu.engine_backend == "cpu":
        raise RefusedError(
            f"The config plans on {group.label}: logical GPUs are processes of one machine, which "
            "no Kubernetes node offers as a resource. Set hardware: to real GPUs, such as 8xH100, "
            "or run it on this machine: rayserve-par serve."
        )
    replicas = sum(_nodes_for(app, wanted_replicas(app.args, app.plan)) for app in apps)
    if replicas > group.nodes:
        raise RefusedError(
            f"The applications need {replicas} nodes together; the config's hardware {group.label} "
            f"has {group.nodes}. Raise hardware: to {replicas} nodes, or lower the replicas."
        )
    most = sum(_nodes_for(app, _most_instances(app)) for app in apps)
    return WorkerCount(group, replicas, max(replicas, min(most, group.nodes)))


def _most_instances(app: PlannedApp) -> int:
    if app.args.autoscaling is not None:
        return app.args.autoscaling.max_replicas
    return wanted_replicas(app.args, app.plan)


def _nodes_for(app: PlannedApp, instances: int) -> int:
    """The fewest nodes of the plan's kind that hold `instances` of its layout."""
    plan = app.plan
    count = plan.nodes_per_instance
    while _room(plan, count) < instances:
        count += 1
    return count


def _room(plan: Plan, nodes: int) -> int:
    group = plan.node_group
    of_nodes = NodeGroup(group.name, group.gpu, nodes, group.gpus_per_node)
    return Spread(plan.layout, of_nodes, plan.across_nodes).instances
