"""A config as a KubeRay RayService: head group, worker groups, and the config itself inside."""

from rayserve_par.control.kuberay.manifest import ManifestOptions, manifest_text, ray_service
from rayserve_par.control.kuberay.pods import PodOptions
from rayserve_par.control.kuberay.worker_count import PlannedApp, WorkerCount, worker_counts

__all__ = [
    "ManifestOptions",
    "PlannedApp",
    "PodOptions",
    "WorkerCount",
    "manifest_text",
    "ray_service",
    "worker_counts",
]
