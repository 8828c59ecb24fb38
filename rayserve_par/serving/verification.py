"""After start: does what Ray says agree with what the plan says?

The executor wrote down each rank's actor, node, bundle and GPU; here the actors' nodes and states
and the bundles' nodes are read from Ray's own tables, and the pure `placement.verify` compares.
"""

from __future__ import annotations

import ray
from ray.util.placement_group import placement_group_table

from rayserve_par.placement.bundles import Placement
from rayserve_par.placement.verify import RankLocation, Verdict, verify
from rayserve_par.serving.cluster_view import nvlink_domains
from rayserve_par.serving.rank_table import read_ranks


def actor_nodes() -> dict[str, str]:
    """Node id of every living actor by actor id, both in hex, from Ray's actor table."""
    return {
        actor_id: entry["Address"]["NodeID"]
        for actor_id, entry in ray._private.state.actors().items()
        if entry["State"] == "ALIVE"
    }


def verify_placement(placement: Placement) -> Verdict:
    """Compare this replica's instance with its plan, from Ray's tables.

    Must run in the replica (its placement group is the one that is looked at).
    """
    group = ray.util.get_current_placement_group()
    if group is None:
        raise RuntimeError("This process is in no placement group; it must run in a replica.")
    bundle_nodes = placement_group_table(group)["bundles_to_node_id"]
    nodes = actor_nodes()
    locations = [
        RankLocation(
            dp_rank=record.dp_rank,
            rank=record.rank,
            bundle=record.bundle,
            node_id=nodes.get(record.actor_id, "not alive"),
            gpu=record.gpu,
        )
        for record in read_ranks(group.id.hex())
    ]
    return verify(placement, locations, nvlink_domains(), bundle_nodes)
