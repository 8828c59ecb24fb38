"""What a live Ray cluster reports, turned into `hardware` and `placement` terms.

A node's GPU kind is its label `rayserve-par.io/gpu` (which wins) or the accelerator type that Ray
detected; its NVLink domain the label `rayserve-par.io/nvlink-domain`, else the node itself.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import ray
from ray._private.state import available_resources_per_node

from rayserve_par.errors import RefusedError
from rayserve_par.hardware.catalogue import gpu_by_name
from rayserve_par.hardware.cluster import Cluster, NodeGroup
from rayserve_par.placement.fit import NodeState

GPU_LABEL = "rayserve-par.io/gpu"
NVLINK_DOMAIN_LABEL = "rayserve-par.io/nvlink-domain"
_RAY_ACCELERATOR_LABEL = "ray.io/accelerator-type"
_RAY_ACCELERATOR_RESOURCE = "accelerator_type:"


def _alive_nodes() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _gpu_kind(node: dict[str, Any]) -> str:
    labels = node.get("Labels", {})
    kind = labels.get(GPU_LABEL) or labels.get(_RAY_ACCELERATOR_LABEL)
    if kind:
        return str(kind)
    for resource in node["Resources"]:
        if resource.startswith(_RAY_ACCELERATOR_RESOURCE):
            return str(resource).removeprefix(_RAY_ACCELERATOR_RESOURCE)
    raise RefusedError(
        f"Node {node['NodeName']} has {node['Resources'].get('GPU', 0):g} GPUs of a kind that Ray "
        f"does not report. Start it with: ray start --labels {GPU_LABEL}=H200 (or another name of "
        "the hardware catalogue)."
    )


def live_nodes() -> list[NodeState]:
    """Every living node with its GPUs in total and free now, by name."""
    free = available_resources_per_node()
    states = [
        NodeState(
            node_id=node["NodeID"],
            name=node["NodeName"],
            gpus_total=node["Resources"].get("GPU", 0.0),
            gpus_free=free.get(node["NodeID"], {}).get("GPU", 0.0),
            cpus_free=free.get(node["NodeID"], {}).get("CPU", 0.0),
            nvlink_domain=node.get("Labels", {}).get(NVLINK_DOMAIN_LABEL, node["NodeID"]),
        )
        for node in _alive_nodes()
    ]
    return sorted(states, key=lambda state: (state.name, state.node_id))


def nvlink_domains() -> dict[str, str]:
    """NVLink domain of every living node by node id."""
    return {state.node_id: state.nvlink_domain for state in live_nodes()}


def _gpu_nodes() -> list[dict[str, Any]]:
    return [node for node in _alive_nodes() if node["Resources"].get("GPU", 0)]


def gpu_kinds() -> dict[str, str]:
    """The catalogue's name of every living GPU node's GPUs, by node id."""
    return {node["NodeID"]: gpu_by_name(_gpu_kind(node)).name for node in _gpu_nodes()}


def nodes_of_kind(gpu_name: str) -> frozenset[str]:
    """Ids of the living nodes whose GPUs are of the catalogue's kind `gpu_name`."""
    return frozenset(node_id for node_id, kind in gpu_kinds().items() if kind == gpu_name)


def kind_selector(gpu_name: str, *, pinned: bool = False) -> dict[str, str] | None:
    """Label selector of the nodes of one GPU kind; None where every GPU node is of it.

    With `pinned` there is one all the same: nodes of another kind may come later.

    Raises:
        RefusedError: the nodes of that kind carry no label in common that tells them apart.
    """
    nodes = _gpu_nodes()
    wanted = [node for node in nodes if gpu_by_name(_gpu_kind(node)).name == gpu_name]
    if len(wanted) == len(nodes) and not pinned:
        return None
    for label in (GPU_LABEL, _RAY_ACCELERATOR_LABEL):
        values = sorted({node.get("Labels", {}).get(label, "") for node in wanted})
        if values and all(values):
            return {label: f"in({', '.join(values)})"}
    raise RefusedError(
        f"The instances are to keep to {gpu_name} nodes, and these have no label in common by "
        f"which Ray could tell them from others. Start them with: ray start --labels "
        f"{GPU_LABEL}={gpu_name}"
    )


def live_cluster() -> Cluster:
    """The living GPU nodes as node groups: one per GPU kind and number of GPUs a node.

    Raises:
        RefusedError: no node has a GPU, or a node's GPU kind is unknown.
    """
    counts: dict[tuple[str, int], int] = defaultdict(int)
    for node in _alive_nodes():
        gpus = int(node["Resources"].get("GPU", 0))
        if gpus:
            counts[gpu_by_name(_gpu_kind(node)).name, gpus] += 1
    if not counts:
        raise RefusedError(
            f"The Ray cluster has {len(_alive_nodes())} nodes and no GPU. Add GPU nodes; without "
            "GPUs, `rayserve-par serve` starts a local cluster whose GPUs are logical."
        )
    return Cluster(
        tuple(
            NodeGroup(name=f"{kind}x{gpus}", gpu=gpu_by_name(kind), nodes=nodes, gpus_per_node=gpus)
            for (kind, gpus), nodes in sorted(counts.items())
        )
    )
