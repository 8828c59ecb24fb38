"""GPUs, nodes and clusters."""

from rayserve_par.hardware.catalogue import gpu_by_name, gpu_names
from rayserve_par.hardware.cluster import Cluster, NodeGroup, parse_cluster
from rayserve_par.hardware.gpu import GIB, Gpu

__all__ = ["GIB", "Cluster", "Gpu", "NodeGroup", "gpu_by_name", "gpu_names", "parse_cluster"]
