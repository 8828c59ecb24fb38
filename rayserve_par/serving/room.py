"""Where on the living cluster an application may go, and whether it fits there.

On a cluster of several GPU kinds only nodes of the plan's kind count, and a label selector keeps
Ray to them. What the application's own instances hold counts as free: an update stops them first.
"""

from __future__ import annotations

from rayserve_par.placement.bundles import Placement
from rayserve_par.placement.fit import NodeState, check_fit
from rayserve_par.planning.plan import Plan
from rayserve_par.serving.cluster_view import kind_selector, live_nodes, nodes_of_kind
from rayserve_par.serving.held_groups import freed, groups_of
from rayserve_par.serving.rank_table import read_instances
from rayserve_par.serving.verification import actor_nodes


def check_room(placement: Placement, made: Plan, instances: int, public_name: str) -> None:
    """Refuse what the living nodes of the plan's GPU kind cannot hold.

    Raises:
        RefusedError: too few nodes or GPUs, in total or free; the message has the numbers.
    """
    allowed = nodes_of_kind(made.node_group.gpu.name)
    nodes = [node for node in live_nodes() if node.node_id in allowed]
    check_fit(placement, own_gpus_freed(nodes, public_name), instances)


def own_gpus_freed(nodes: list[NodeState], public_name: str) -> list[NodeState]:
    """`nodes` as they are once the living instances of the model `public_name` have stopped."""
    alive = actor_nodes()
    apps = {
        record.app
        for record in read_instances()
        if record.model == public_name and record.actor_id in alive
    }
    return freed(nodes, [group for app in sorted(apps) for group in groups_of(app)])


def bundle_label_selector(made: Plan, *, pinned: bool) -> list[dict[str, str]] | None:
    """Serve's selector that keeps every bundle on the plan's GPU kind.

    None where all nodes are alike, unless the application is `pinned` to its node group.

    Raises:
        RefusedError: the nodes have no label for it.
    """
    selector = kind_selector(made.node_group.gpu.name, pinned=pinned)
    return [selector] if selector else None
