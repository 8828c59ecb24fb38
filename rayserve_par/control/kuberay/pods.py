"""Pod templates of the head and of a worker.

Both run one image, with rayserve-par, Ray and vLLM in it: Serve builds the application, and so
plans it, wherever it likes. HAProxy's switch is read by Serve's controller (head), by the proxies
and by the replicas (workers), so both carry it.

Per worker pod: all GPUs of a node, 2 + 4 x GPUs CPUs, 32 + 32 x GPUs GiB of memory, /dev/shm of
4 + 2 x GPUs GiB (NCCL and vLLM between the ranks, and Ray's object store, held at 2 GB).

Readiness: a worker takes requests while its HAProxy answers /-/healthz: not before an instance
lives, and no more once it drains; a node without a replica stays unready and only computes. The
head becomes ready when the GPUs have joined: KubeRay hands Serve the config at that moment, once,
and an application that finds no GPU to plan on would be refused for good.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rayserve_par.hardware.cluster import NodeGroup

GPU_LABEL = "rayserve-par.io/gpu"
HAPROXY_LAUNCHER_IN_IMAGE = "/usr/local/bin/rayserve-par-haproxy"
GPU_RESOURCES = {"cuda": "nvidia.com/gpu", "rocm": "amd.com/gpu"}
HEAD_CPUS = 4
_HEAD_MEMORY = "16Gi"
_MODELS_PATH = "/models"
_HOST_MODELS_PATH = "/var/lib/rayserve-par/models"
_KEYS_PATH = "/etc/rayserve-par"
# A pod that is to go lets its streams finish: Ray ends everything at once on SIGTERM, so the node
# is drained before that, for an application's drain_timeout_s, and Kubernetes waits a little more.
_DRAIN_SECONDS = 600
_GRACE_SECONDS = _DRAIN_SECONDS + 30
_DRAIN_COMMAND = ["rayserve-par", "drain-node", "--address", "auto", "--timeout"]
_TOKEN_SECRET = "huggingface-token"
_DASHBOARD_PORT = 8265
_AGENT_PORT = 52365

Pod = dict[str, Any]


@dataclass(frozen=True, slots=True)
class PodOptions:
    """`model_claim` names a ReadWriteMany volume claim for models; without it each node keeps
    its own in a folder of the host. `keys_secret` names the secret with the API keys; None serves
    everybody who reaches the pods.
    """

    image: str
    serve_port: int = 8000
    model_claim: str | None = None
    keys_secret: str | None = None


def worker_cpus(gpus: int) -> int:
    """CPUs that a worker pod asks for, which Ray counts as its node's."""
    return 2 + 4 * gpus


def worker_pod(group: NodeGroup, options: PodOptions) -> Pod:
    """Pod template of a worker: one node's GPUs."""
    gpus, resource = group.gpus_per_node, GPU_RESOURCES[group.gpu.engine_backend]
    memory = f"{32 + 32 * gpus}Gi"
    models: dict[str, Any] = {"hostPath": {"path": _HOST_MODELS_PATH, "type": "DirectoryOrCreate"}}
    if options.model_claim is not None:
        models = {"persistentVolumeClaim": {"claimName": options.model_claim}}
    return {
        "spec": {
            "nodeSelector": {GPU_LABEL: group.gpu.name},
            "tolerations": [{"key": resource, "operator": "Exists", "effect": "NoSchedule"}],
            "terminationGracePeriodSeconds": _GRACE_SECONDS,
            "containers": [
                {
                    "name": "ray-worker",
                    "image": options.image,
                    "env": [
                        *_env(options),
                        {"name": "HF_HOME", "value": f"{_MODELS_PATH}/huggingface"},
                    ],
                    "ports": [{"containerPort": options.serve_port, "name": "serve"}],
                    "resources": {
                        "requests": {
                            "cpu": str(worker_cpus(gpus)),
                            "memory": memory,
                            resource: str(gpus),
                        },
                        "limits": {"memory": memory, resource: str(gpus)},
                    },
                    "readinessProbe": {
                        "httpGet": {"path": "/-/healthz", "port": options.serve_port},
                        "periodSeconds": 5,
                        "timeoutSeconds": 2,
                        "failureThreshold": 1,
                    },
                    "livenessProbe": _raylet_lives(),
                    "lifecycle": {
                        "preStop": {"exec": {"command": [*_DRAIN_COMMAND, str(_DRAIN_SECONDS)]}}
                    },
                    "volumeMounts": [
                        {"name": "shared-memory", "mountPath": "/dev/shm"},
                        {"name": "models", "mountPath": _MODELS_PATH},
                        *_keys_mounts(options),
                    ],
                }
            ],
            "volumes": [
                {
                    "name": "shared-memory",
                    "emptyDir": {"medium": "Memory", "sizeLimit": f"{4 + 2 * gpus}Gi"},
                },
                {"name": "models", **models},
                *_keys_volumes(options),
            ],
        }
    }


def head_pod(options: PodOptions, gpus_to_wait_for: int) -> Pod:
    """Pod template of the head: no GPU, and not ready before the GPUs have joined."""
    size = {"cpu": str(HEAD_CPUS), "memory": _HEAD_MEMORY}
    gpus_joined = ["python3", "-m", "rayserve_par.control.kuberay.gpus_joined"]
    return {
        "spec": {
            "containers": [
                {
                    "name": "ray-head",
                    "image": options.image,
                    "env": _env(options),
                    "ports": [
                        {"containerPort": 6379, "name": "gcs-server"},
                        {"containerPort": _DASHBOARD_PORT, "name": "dashboard"},
                        {"containerPort": 10001, "name": "client"},
                        {"containerPort": options.serve_port, "name": "serve"},
                    ],
                    "resources": {"requests": size, "limits": {"memory": _HEAD_MEMORY}},
                    "startupProbe": {
                        "exec": {"command": [*gpus_joined, str(gpus_to_wait_for)]},
                        "periodSeconds": 15,
                        "timeoutSeconds": 30,
                        "failureThreshold": 240,
                    },
                    "readinessProbe": {
                        "httpGet": {"path": "/api/gcs_healthz", "port": _DASHBOARD_PORT},
                        "periodSeconds": 5,
                        "timeoutSeconds": 5,
                        "failureThreshold": 10,
                    },
                    "livenessProbe": _raylet_lives(),
                    "volumeMounts": _keys_mounts(options),
                }
            ],
            "volumes": _keys_volumes(options),
        }
    }


def _env(options: PodOptions) -> list[dict[str, Any]]:
    token = {"name": _TOKEN_SECRET, "key": "token", "optional": True}
    return [
        {"name": "RAY_SERVE_ENABLE_HA_PROXY", "value": "1"},
        {"name": "RAY_SERVE_HAPROXY_BINARY_PATH", "value": HAPROXY_LAUNCHER_IN_IMAGE},
        # A reloaded HAProxy leaves with its last stream, and cuts what is left after so long.
        {"name": "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S", "value": "3600"},
        # Clients are other pods, so the front listens to the network: with keys, or openly.
        {"name": "RAYSERVE_PAR_FRONT_HOST", "value": "0.0.0.0"},
        # Ray runs its workers at niceness 15, which costs a replica its turn on a busy node.
        {"name": "RAY_worker_niceness", "value": "0"},
        {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": token}},
        _keys(options.keys_secret),
    ]


def _keys(secret: str | None) -> dict[str, Any]:
    if secret is None:
        return {"name": "RAYSERVE_PAR_OPEN", "value": "1"}
    return {"name": "RAYSERVE_PAR_KEYS_FILE", "value": f"{_KEYS_PATH}/keys.yaml"}


def _keys_mounts(options: PodOptions) -> list[dict[str, Any]]:
    # The whole folder: a changed secret reaches running pods only so.
    if options.keys_secret is None:
        return []
    return [{"name": "api-keys", "mountPath": _KEYS_PATH, "readOnly": True}]


def _keys_volumes(options: PodOptions) -> list[dict[str, Any]]:
    if options.keys_secret is None:
        return []
    return [{"name": "api-keys", "secret": {"secretName": options.keys_secret}}]


def _raylet_lives() -> dict[str, Any]:
    return {
        "httpGet": {"path": "/api/local_raylet_healthz", "port": _AGENT_PORT},
        "initialDelaySeconds": 30,
        "periodSeconds": 5,
        "timeoutSeconds": 5,
        "failureThreshold": 120,
    }
