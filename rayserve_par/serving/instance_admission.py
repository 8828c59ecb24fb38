"""Admission of one replica: its gate, with what only a living replica knows."""

from __future__ import annotations

from collections.abc import Callable, Collection

import ray

from rayserve_par.serving.admission.concurrency import EngineLoad
from rayserve_par.serving.admission.gate import Gate
from rayserve_par.serving.admission.key_source import open_key_source
from rayserve_par.serving.admission.ray_ledger import RayLedger
from rayserve_par.serving.admission.usage import UsageSink
from rayserve_par.serving.replica_spec import ReplicaSpec
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
    return Gate(
        spec.admission.model_copy(update={"open": opened}),
        names=(spec.served_model_name, *spec.aliases),
        facts={
            "node_group": spec.node_group,
            "full_requests_per_second": spec.full_requests_per_second,
        },
        keys=open_key_source(spec.admission.keys_file),
        ledger=RayLedger(app),
        holder=replica_id,
        replicas=spec.most_replicas,
        engine_load=engine_load,
        engine_failed=engine_failed,
        node_addresses=node_addresses,
        usage=usage,
    )


def node_addresses() -> Collection[str]:
    """Addresses of the living nodes, where the cluster's HAProxies are."""
    return {node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
