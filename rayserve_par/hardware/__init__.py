"""GPUs, nodes and clusters."""

from rayserve_par.hardware.catalogue import Catalogue, gpu_by_name, gpu_names, shipped_catalogue
from rayserve_par.hardware.cluster import Cluster, NodeGroup, parse_cluster
from rayserve_par.hardware.cluster_mapping import cluster_from_mapping
from rayserve_par.hardware.gpu import GIB, Gpu
from rayserve_par.hardware.profile import CollectivePoint, EngineRun, Profile
from rayserve_par.hardware.profile_json import profile_from_json, profile_to_json
from rayserve_par.hardware.user_catalogue import catalogue_from_mapping

__all__ = [
    "GIB",
    "Catalogue",
    "Cluster",
    "CollectivePoint",
    "EngineRun",
    "Gpu",
    "NodeGroup",
    "Profile",
    "catalogue_from_mapping",
    "cluster_from_mapping",
    "gpu_by_name",
    "gpu_names",
    "parse_cluster",
    "profile_from_json",
    "profile_to_json",
    "shipped_catalogue",
]
