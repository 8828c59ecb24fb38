"""A config as a KubeRay RayService: head group, worker group, and the config itself inside."""

from rayserve_par.control.kuberay.manifest import ManifestOptions, manifest_text, ray_service
from rayserve_par.control.kuberay.pods import PodOptions
from rayserve_par.control.kuberay.worker_count import PlannedApp, WorkerCount, worker_count

__all__ = [
    "ManifestOptions",
    "PlannedApp",
    "PodOptions",
    "WorkerCount",
    "manifest_text",
    "ray_service",
    "worker_count",
]
