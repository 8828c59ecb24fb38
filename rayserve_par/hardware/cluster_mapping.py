"""A cluster from a mapping that YAML or JSON was read into.

    node_groups:
      - {gpu: H100, nodes: 3}                      # gpus_per_node: the GPU's usual node
      - {name: small, gpu: L40S, nodes: 2, gpus_per_node: 4, price_per_hour_usd: 0.9}
    gpus:                                          # optional, see user_catalogue
      H100: {price_per_hour_usd: 2.10}

What a group says of its GPUs (memory, links, NIC, price per GPU and hour) holds for it alone.
"""

from collections.abc import Mapping
from typing import Any

from rayserve_par.errors import RefusedError
from rayserve_par.hardware.catalogue import Catalogue
from rayserve_par.hardware.cluster import Cluster, NodeGroup, group_name
from rayserve_par.hardware.gpu_entry import as_mapping, gpu_from_entry, refuse_unknown_keys
from rayserve_par.hardware.user_catalogue import catalogue_from_mapping

_OWN_KEYS = ("name", "gpu", "nodes", "gpus_per_node")
_GPU_KEYS = (
    "usable_gib",
    "nvlink",
    "nvlink_domain_gpus",
    "link_gb_per_second",
    "nic_gb_per_second",
    "price_per_hour_usd",
)


def _at_least_one(where: str, key: str, found: object) -> int:
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise RefusedError(f"{where}: {key} must be a whole number above 0, found {found!r}.")
    return found


def _group(
    where: str, entry: Mapping[str, Any], catalogue: Catalogue, before: list[NodeGroup]
) -> NodeGroup:
    refuse_unknown_keys(where, entry, (*_OWN_KEYS, *_GPU_KEYS))
    lacking = [key for key in ("gpu", "nodes") if key not in entry]
    if lacking:
        raise RefusedError(f"{where}: lacks {' and '.join(lacking)}, such as gpu: H100, nodes: 2.")
    for key in ("gpu", "name"):
        if not isinstance(entry.get(key, ""), str):
            raise RefusedError(f"{where}: {key} must be text, found {entry[key]!r}.")
    gpu = catalogue.gpu(entry["gpu"])
    facts = {key: found for key, found in entry.items() if key in _GPU_KEYS}
    if facts:
        gpu = gpu_from_entry(gpu.name, facts, source="user", base=gpu)
    return NodeGroup(
        name=entry.get("name") or group_name(gpu, before),
        gpu=gpu,
        nodes=_at_least_one(where, "nodes", entry["nodes"]),
        gpus_per_node=_at_least_one(
            where, "gpus_per_node", entry.get("gpus_per_node", gpu.gpus_per_node)
        ),
    )


def cluster_from_mapping(mapping: Mapping[str, Any], catalogue: Catalogue | None = None) -> Cluster:
    """The cluster that `mapping` describes, with its own GPUs put over `catalogue`'s.

    Raises RefusedError for keys that are not known or lack, values of the wrong kind, GPUs that are
    not known, and groups of the same name.
    """
    where = "cluster"
    refuse_unknown_keys(where, as_mapping(where, mapping), ("node_groups", "gpus"))
    known = catalogue_from_mapping(mapping.get("gpus") or {}, catalogue)
    found = mapping.get("node_groups")
    if not isinstance(found, list) or not found:
        raise RefusedError(
            f"{where}: node_groups must be a list with at least one group, found {found!r}. Write "
            "node_groups: [{gpu: H100, nodes: 2}]."
        )
    groups: list[NodeGroup] = []
    for number, entry in enumerate(found, start=1):
        place = f"node group {number}"
        groups.append(_group(place, as_mapping(place, entry), known, groups))
    return Cluster(tuple(groups))
