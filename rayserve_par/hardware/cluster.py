"""A cluster as groups of equal nodes, and the short form that people type.

16xH200     16 GPUs in nodes of the usual size (8): 2 nodes
2x8xH200    2 nodes of 8
4xL40S      less than or one node: 1 node of 4
B200        one node of the usual size
2x8xH100,1x4xL40S    two groups
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from rayserve_par.errors import RefusedError
from rayserve_par.hardware.catalogue import Catalogue, lookup_key, shipped_catalogue
from rayserve_par.hardware.gpu import Gpu

_MOST_NODES, _MOST_GPUS_PER_NODE = 1_000_000, 1024


@dataclass(frozen=True, slots=True)
class NodeGroup:
    """`nodes` equal nodes of `gpus_per_node` GPUs."""

    name: str
    gpu: Gpu
    nodes: int
    gpus_per_node: int

    def __post_init__(self) -> None:
        if self.nodes < 1 or self.gpus_per_node < 1:
            raise RefusedError(
                f"node group {self.name}: {self.nodes} nodes of {self.gpus_per_node} GPUs; both "
                "must be at least 1."
            )
        if self.nodes > _MOST_NODES or self.gpus_per_node > _MOST_GPUS_PER_NODE:
            raise RefusedError(
                f"node group {self.name}: {self.nodes} nodes of {self.gpus_per_node} GPUs are more "
                f"than {_MOST_NODES:,} nodes or {_MOST_GPUS_PER_NODE:,} GPUs a node. Check the "
                "numbers."
            )

    @property
    def gpus(self) -> int:
        """All GPUs of the group."""
        return self.nodes * self.gpus_per_node

    @property
    def nodes_per_domain(self) -> int:
        """Nodes that one NVLink domain joins: whole nodes only, 1 where it ends at the node.

        A domain spans nodes where it is larger than the GPU's usual node (NVL72: 72 > 4). Half an
        HGX board as a node of 4 is not joined to the next such node, though 8 > 4.
        """
        if not self.gpu.nvlink or self.gpu.nvlink_domain_gpus <= self.gpu.gpus_per_node:
            return 1
        return max(1, self.gpu.nvlink_domain_gpus // self.gpus_per_node)

    @property
    def domains(self) -> int:
        """NVLink domains of the group, the last one perhaps in part.

        Joined nodes count as one; a node of 8 GPUs bridged in pairs has 4.
        """
        if self.nodes_per_domain > 1:
            return ceil(self.nodes / self.nodes_per_domain)
        return self.nodes * ceil(self.gpus_per_node / self.gpu.nvlink_domain_gpus)

    @property
    def tp_limit(self) -> int:
        """The widest TP group: all GPUs of one NVLink domain that the group has.

        Inside a node min(gpus_per_node, nvlink_domain_gpus). Where a domain spans nodes (NVL72: 18
        trays of 4), its whole nodes, as far as the group has them.
        """
        joined = min(self.nodes, self.nodes_per_domain) * self.gpus_per_node
        return min(joined, self.gpu.nvlink_domain_gpus)

    @property
    def shape(self) -> str:
        """One of its nodes, such as "8xH200"."""
        return f"{self.gpus_per_node}x{self.gpu.name}"

    @property
    def label(self) -> str:
        """Such as "2x8xH200"."""
        return f"{self.nodes}x{self.gpus_per_node}x{self.gpu.name}"


@dataclass(frozen=True, slots=True)
class Cluster:
    """Node groups; their names differ."""

    node_groups: tuple[NodeGroup, ...]

    def __post_init__(self) -> None:
        names = [group.name for group in self.node_groups]
        if not names:
            raise RefusedError("a cluster needs at least one node group; it has none.")
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise RefusedError(f"node groups have the same name: {', '.join(doubled)}. Rename one.")

    @property
    def gpus(self) -> int:
        """All GPUs."""
        return sum(group.gpus for group in self.node_groups)

    @property
    def label(self) -> str:
        """Such as "2x8xH200,1x4xL40S"."""
        return ",".join(group.label for group in self.node_groups)

    def of_gpu(self, name: str) -> "Cluster":
        """The node groups whose GPUs are called `name`, as the catalogue understands names.

        Raises RefusedError, with the GPUs that there are, where no group has them.
        """
        keys = {lookup_key(name)}
        shipped = shipped_catalogue().find(name)
        if shipped is not None:
            keys.add(lookup_key(shipped.name))
        found = tuple(one for one in self.node_groups if lookup_key(one.gpu.name) in keys)
        if not found:
            there = ", ".join(dict.fromkeys(one.gpu.name for one in self.node_groups))
            raise RefusedError(
                f"No nodes have GPUs called {name!r}; the cluster has {self.label}. Name one of "
                f"its kinds of GPU: {there}."
            )
        return Cluster(found)


def _whole_nodes(text: str, gpus: int, gpu: Gpu) -> tuple[int, int]:
    size = gpu.gpus_per_node
    if gpus <= size:
        return 1, gpus
    if gpus % size:
        whole = gpus // size
        raise RefusedError(
            f"{text!r}: {gpus} GPUs are not whole nodes of {size} x {gpu.name}: {gpus} / {size} = "
            f"{gpus / size:g}. Write {whole * size}x{gpu.name} or {(whole + 1) * size}x{gpu.name}, "
            f"or give the nodes: NODESxGPUSx{gpu.name}."
        )
    return gpus // size, size


def _parse_group(text: str, catalogue: Catalogue) -> tuple[Gpu, int, int]:
    match = re.fullmatch(r"(?:(\d+)\s*[xX]\s*)?(?:(\d+)\s*[xX]\s*)?([A-Za-z][\w \-]*)", text)
    if match is None:
        raise RefusedError(
            f"{text!r} is not a node group. Write GPUSxNAME (16xH200), NODESxGPUSxNAME "
            "(2x8xH200) or NAME (B200, one node)."
        )
    first, second, name = match.groups()
    gpu = catalogue.gpu(name)
    for number in (first, second):
        if number is not None and int(number) < 1:
            raise RefusedError(f"{text!r}: {number} is not at least 1.")
    if second is not None:
        return gpu, int(first), int(second)
    nodes, size = _whole_nodes(text, int(first or gpu.gpus_per_node), gpu)
    return gpu, nodes, size


def group_name(gpu: Gpu, before: Sequence[NodeGroup]) -> str:
    """A name for the next group: "h100", then "h100-2" where groups of that GPU are `before`."""
    taken = sum(group.gpu.name == gpu.name for group in before)
    return f"{gpu.name.lower()}-{taken + 1}" if taken else gpu.name.lower()


def parse_cluster(text: str, catalogue: Catalogue | None = None) -> Cluster:
    """Read "16xH200", "2x8xH200", "B200", or several with commas between.

    GPUs are looked up in `catalogue`, the shipped one where none is given.

    Raises RefusedError for anything else, for unknown GPUs, and for GPUs that are not whole nodes.
    """
    known = catalogue or shipped_catalogue()
    groups: list[NodeGroup] = []
    for part in text.split(","):
        gpu, nodes, size = _parse_group(part.strip(), known)
        groups.append(NodeGroup(group_name(gpu, groups), gpu, nodes, size))
    return Cluster(tuple(groups))
