"""The planner's layouts for one application on a cluster, and what of them fits where.

Every layout is planned once more as an explicit one, since that is what `build_app` will do with
it: so the numbers are those of the node group that it would really run on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from rayserve_par.control.decide.prospect import Prospect
from rayserve_par.errors import RefusedError
from rayserve_par.hardware.cluster import Cluster
from rayserve_par.placement.fit import NodeState, check_fit, free_room
from rayserve_par.planning.plan import Plan
from rayserve_par.planning.request import Target
from rayserve_par.serving.app import placement_of, plan_for
from rayserve_par.serving.config import AppArgs, ReplannedArgs, WorkloadArgs
from rayserve_par.serving.held_groups import HeldGroup, freed
from rayserve_par.serving.model_store.locate import Model, locate_model

_MOST_CANDIDATES = 5


@dataclass(frozen=True, slots=True)
class Planned:
    """Plans for one instance each, the planner's choice first; `refusal` where there is none."""

    plans: tuple[Plan, ...]
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class Room:
    """The nodes now, and what the application's own groups hold. `kind_nodes` by GPU kind."""

    nodes: tuple[NodeState, ...]
    held: tuple[HeldGroup, ...]
    kind_nodes: Callable[[str], frozenset[str]]

    def prospect(self, made: Plan) -> Prospect:
        """A plan as the decision weighs it."""
        placement, point = placement_of(made), made.point
        nodes = self._of(made)
        group = made.node_group
        places = [
            free_room(placement, freed(nodes, [one]))
            for one in self.held
            if one.gpus_held >= made.layout.gpus
        ]
        return Prospect(
            layout=made.layout,
            node_group=group.shape,
            across_nodes=made.across_nodes,
            gpus_taken=made.gpus_taken / made.instances,
            room=free_room(placement, freed(nodes, self.held)),
            beside=free_room(placement, nodes),
            in_place=len(places) == len(self.held) and all(places),
            requests_per_second=point.requests_per_second,
            ttft_seconds=point.ttft_seconds,
            tpot_seconds=point.tpot_seconds,
            excess=max(
                point.ttft_seconds / made.workload.ttft_limit,
                point.tpot_seconds / made.workload.tpot_limit,
            ),
        )

    def missing(self, made: Plan) -> str:
        """What one instance lacks; "" where it fits."""
        try:
            check_fit(placement_of(made), freed(self._of(made), self.held), 1)
        except RefusedError as refusal:
            return str(refusal)
        return ""

    def _of(self, made: Plan) -> list[NodeState]:
        allowed = self.kind_nodes(made.node_group.gpu.name)
        return [node for node in self.nodes if node.node_id in allowed]


def candidates(args: AppArgs, cluster: Cluster) -> Planned:
    """The planner's choice for one instance on the cluster, then its runners-up."""
    return _candidates(_for_one(args, None).model_dump_json(), cluster)


def planned_as(args: AppArgs, cluster: Cluster, layout: ReplannedArgs) -> Planned:
    """One instance with this layout, on the nodes that it names."""
    return _planned_as(_for_one(args, layout).model_dump_json(), cluster)


def with_workload(args: AppArgs, workload: WorkloadArgs) -> AppArgs:
    """`args` for another workload."""
    return args.model_copy(update={"workload": workload})


def _for_one(args: AppArgs, layout: ReplannedArgs | None) -> AppArgs:
    """`args` for one instance, with this layout or with the planner's choice.

    What one instance of a given layout does is the same at every rate, and so is the layout that
    is best for one stream, for which the planner takes no rate.
    """
    changes: dict[str, Any] = {"layout": "auto", "num_replicas": 1, "autoscaling": None}
    if layout is not None or args.target is Target.LATENCY:
        changes["workload"] = args.workload and args.workload.model_copy(update={"rate": None})
    one = layout and layout.model_copy(update={"instances": 1})
    return args.model_copy(update={**changes, "replanned": one})


@lru_cache(maxsize=64)
def _candidates(args_json: str, cluster: Cluster) -> Planned:
    chosen = _planned_as(args_json, cluster)
    if not chosen.plans:
        return chosen
    [best] = chosen.plans
    args = AppArgs.model_validate_json(args_json)
    shapes = {group.name: group.shape for group in cluster.node_groups}
    asked = [(best.layout, best.node_group.shape)]
    asked += [(one.layout, shapes[one.node_group]) for one in best.runner_ups]
    plans: list[Plan] = []
    for layout, nodes in asked[:_MOST_CANDIDATES]:
        given = ReplannedArgs(tp=layout.tp, pp=layout.pp, dp=layout.dp, ep=layout.ep, nodes=nodes)
        plans += planned_as(args, cluster, given).plans
    return Planned(tuple(plans))


@lru_cache(maxsize=512)
def _planned_as(args_json: str, cluster: Cluster) -> Planned:
    args = AppArgs.model_validate_json(args_json)
    try:
        return Planned((plan_for(args, _model(args.model), cluster),))
    except RefusedError as refusal:
        return Planned((), str(refusal))


@lru_cache(maxsize=16)
def _model(name: str) -> Model:
    return locate_model(name)


def prospects(room: Room, plans: Sequence[Plan]) -> tuple[Prospect, ...]:
    """All of them, each layout once."""
    found: list[Prospect] = []
    for made in plans:
        one = room.prospect(made)
        if not any(one.same_as(other) for other in found):
            found.append(one)
    return tuple(found)
