"""Admission of one replica: its gate, with what only a living replica knows."""

from __future__ import annotations

from collections.abc import Callable, Collection

import ray

from rayserve_par.serving.admission.concurrency import EngineLoad
from rayserve_par.serving.admission.gate import Gate
from rayserve_par.serving.admission.key_source import open_key_source
from rayserve_par.serving.admission.own_share import OwnShare, limits_of
from rayserve_par.serving.admission.ray_ledger import RayLedger
from rayserve_par.serving.admission.usage import UsageSink
from rayserve_par.serving.rank_table import read_instances
from rayserve_par.serving.replica_spec import ReplicaSpec
from rayserve_par.serving.verification import actor_nodes
from rayserve_par.settings import load_settings


def make_gate(
    spec: ReplicaSpec,
    *,
    app: str,
    replica_id: str,
    engine_load: Callable[[], EngineLoad | None],
    engine_failed: Callable[[], bool],
    usage: UsageSink,
) -> Gate:
    """The gate of one replica of the application `app`.

    Raises:
        RefusedError: the API keys cannot be read.
    """
    opened = spec.admission.open or load_settings().open
    limits = limits_of(app, spec.names, spec.node_group)
    return Gate(
        spec.admission.model_copy(update={"open": opened}),
        names=spec.names,
        facts={
            "node_group": spec.node_group,
            "full_requests_per_second": spec.full_requests_per_second,
        },
        keys=open_key_source(spec.admission.keys_file),
        ledger=RayLedger(limits),
        holder=replica_id,
        look_at_share=lambda: share_now(limits, replica_id),
        engine_load=engine_load,
        engine_failed=engine_failed,
        node_addresses=node_addresses,
        usage=usage,
    )


def share_now(limits: str, replica_id: str) -> OwnShare:
    """The share of a replica among the living ones with the same limits, by Ray's tables."""
    alive = actor_nodes()
    return OwnShare.of(
        replica_id,
        (
            one.replica_id
            for one in read_instances()
            if one.limits_of == limits and one.actor_id in alive
        ),
    )


def node_addresses() -> Collection[str]:
    """Addresses of the living nodes, where the cluster's HAProxies are."""
    return {node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
