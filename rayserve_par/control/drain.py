"""Takes a node out of service: Ray gives it nothing new, Serve moves its instances elsewhere.

Serve starts each replica anew on another node before it stops the old one, where there is room, and
lets its streams finish; where there is none the replica is stopped before the deadline. It goes by
the node of the replica itself: an instance that only has ranks on the drained node stays, and is
named at the deadline.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import ray

from rayserve_par.control.observe import InstanceView, living_instances
from rayserve_par.errors import RefusedError
from rayserve_par.placement.fit import NodeState

_POLL_SECONDS = 0.5


def find_node(nodes: Sequence[NodeState], asked: str) -> NodeState:
    """The node of that name, or whose id begins so.

    Raises:
        RefusedError: none is, or several are.
    """
    named = [node for node in nodes if node.name == asked]
    found = named or [node for node in nodes if node.node_id.startswith(asked)]
    if len(found) == 1:
        return found[0]
    there = ", ".join(f"{node.name} ({node.node_id[:8]})" for node in nodes)
    what = "no node" if not found else f"{len(found)} nodes"
    raise RefusedError(f"{asked!r} names {what}; give a name or the beginning of an id of: {there}")


def instances_on(node_id: str) -> tuple[InstanceView, ...]:
    """Living instances with a rank on that node."""
    return tuple(
        view for view in living_instances() if any(r.node_id == node_id for r in view.ranks)
    )


def drain(node: NodeState, seconds: float, on_left: Callable[[int], None]) -> None:
    """Drain `node` and wait until no instance has a rank there; `on_left(instances)` meanwhile.

    Raises:
        RefusedError: Ray does not accept it, or instances are left after `seconds`.
    """
    from ray.core.generated.autoscaler_pb2 import DrainNodeReason

    client = ray._raylet.GcsClient(address=ray.get_runtime_context().gcs_address)
    end = time.monotonic() + seconds
    accepted, why_not = client.drain_node(
        node.node_id,
        DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION"),
        "rayserve-par drain-node",
        time.time_ns() // 10**6 + int(1000 * seconds),
    )
    if not accepted:
        raise RefusedError(f"Ray does not drain {node.name}: {why_not}")
    while left := instances_on(node.node_id):
        on_left(len(left))
        if time.monotonic() > end:
            names = ", ".join(f"{one.record.app} {one.record.replica_id}" for one in left)
            raise RefusedError(
                f"{node.name} still holds ranks of {names} after {seconds:.0f} s. Their replicas "
                "are on other nodes, or their streams last longer; see `rayserve-par status`."
            )
        time.sleep(_POLL_SECONDS)
