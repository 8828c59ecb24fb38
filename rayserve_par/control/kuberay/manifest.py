"""The RayService (ray.io/v1) of a config, as a document and as YAML text.

`serveConfigV2` is the config's own text. GPU kinds are Ray node labels of the worker groups, which
KubeRay takes from the group's `labels` (it refuses them in rayStartParams): KubeRay 1.5 or later.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from rayserve_par.control.kuberay.pods import GPU_LABEL, PodOptions, head_pod, worker_pod
from rayserve_par.control.kuberay.worker_count import PlannedApp, WorkerCount, worker_counts
from rayserve_par.errors import RefusedError

RAY_VERSION = "2.60.0"
_OBJECT_STORE_BYTES = 2 * 10**9
# KubeRay adds to the name and must stay within a DNS label.
_LONGEST_NAME = 47


@dataclass(frozen=True, slots=True)
class ManifestOptions:
    """`name` becomes the RayService's name in Kubernetes' spelling."""

    name: str
    image: str
    model_claim: str | None = None
    keys_secret: str | None = None

    @property
    def kubernetes_name(self) -> str:
        """Lower case letters, digits and hyphens, from a letter on, 47 at most.

        Raises RefusedError where nothing is left of the name.
        """
        name = re.sub(r"[^a-z0-9]+", "-", self.name.lower())
        name = re.sub(r"^[^a-z]+", "", name)[:_LONGEST_NAME].strip("-")
        if not name:
            raise RefusedError(
                f"{self.name!r} has no letter to begin a Kubernetes name with. Rename the config."
            )
        return name


def ray_service(
    config_text: str,
    http_options: Mapping[str, Any],
    apps: Sequence[PlannedApp],
    options: ManifestOptions,
) -> dict[str, Any]:
    """The RayService document.

    Raises RefusedError where the config cannot run on Kubernetes nodes (worker_count.py).
    """
    counts = worker_counts(apps)
    pods = PodOptions(
        options.image,
        int(http_options.get("port", 8000)),
        options.model_claim,
        options.keys_secret,
    )
    gpus = sum(one.replicas * one.group.gpus_per_node for one in counts)
    scales = any(one.scales for one in counts)
    store = {"object-store-memory": str(_OBJECT_STORE_BYTES)}
    cluster: dict[str, Any] = {
        "rayVersion": RAY_VERSION,
        "authOptions": {"mode": "token"},
        "enableInTreeAutoscaling": scales,
    }
    if scales:
        cluster["autoscalerOptions"] = {"version": "v2", "idleTimeoutSeconds": 300}
    cluster["headGroupSpec"] = {
        "rayStartParams": {"num-cpus": "0", "num-gpus": "0", **store},
        "template": head_pod(pods, gpus),
    }
    cluster["workerGroupSpecs"] = [_worker_group(one, store, pods) for one in counts]
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": {"name": options.kubernetes_name},
        "spec": {"serveConfigV2": config_text, "rayClusterConfig": cluster},
    }


def _worker_group(
    count: WorkerCount, start_params: Mapping[str, str], pods: PodOptions
) -> dict[str, Any]:
    return {
        "groupName": f"{count.group.gpu.name.lower()}-nodes",
        "replicas": count.replicas,
        "minReplicas": count.replicas,
        "maxReplicas": count.max_replicas,
        "labels": {GPU_LABEL: count.group.gpu.name},
        "rayStartParams": dict(start_params),
        "template": worker_pod(count.group, pods),
    }


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as literal blocks; no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        """Kubernetes users read the file; every value is written out."""
        del data
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def manifest_text(document: Mapping[str, Any], config_name: str) -> str:
    """The document as YAML with a heading that says where it is from."""
    heading = (
        f"# Made by `rayserve-par manifest {config_name}`; change the config and make it anew.\n"
        f"# Nodes are chosen by their label {GPU_LABEL}; see deployments/kuberay/README.md.\n"
    )
    return heading + yaml.dump(dict(document), Dumper=_Dumper, sort_keys=False, width=100)
