"""rayserve_par: topology-aware serving of large language models on Ray.

`import_path: rayserve_par:build_app` is what a Ray Serve config names for a model, and
`rayserve_par:build_controller` for the controller. The planner in Python:

    from rayserve_par import Target, known_model, parse_cluster, plan

    made = plan(known_model("openai/gpt-oss-120b"), parse_cluster("8xH100"), target=Target.LATENCY)
    print(made.layout.label, made.point.tpot_seconds)

Importing this package imports neither Ray nor vLLM nor torch, and nothing of its own until it is
asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rayserve_par.control.live.application import build_app
    from rayserve_par.control.replanning.controller import build_controller
    from rayserve_par.hardware import Cluster, cluster_from_mapping, parse_cluster
    from rayserve_par.model import ModelSpec, known_model, model_spec_from_config
    from rayserve_par.planning import Layout, LayoutRequest, Plan, Target, Workload, plan
    from rayserve_par.planning.plan_json import plan_from_json, plan_to_json

__version__ = "0.1.0"
__all__ = [
    "Cluster",
    "Layout",
    "LayoutRequest",
    "ModelSpec",
    "Plan",
    "Target",
    "Workload",
    "__version__",
    "build_app",
    "build_controller",
    "cluster_from_mapping",
    "known_model",
    "model_spec_from_config",
    "parse_cluster",
    "plan",
    "plan_from_json",
    "plan_to_json",
]

_HOMES = {
    "build_controller": "rayserve_par.control.replanning.controller",
    "Cluster": "rayserve_par.hardware",
    "cluster_from_mapping": "rayserve_par.hardware",
    "parse_cluster": "rayserve_par.hardware",
    "ModelSpec": "rayserve_par.model",
    "known_model": "rayserve_par.model",
    "model_spec_from_config": "rayserve_par.model",
    "Layout": "rayserve_par.planning",
    "LayoutRequest": "rayserve_par.planning",
    "Plan": "rayserve_par.planning",
    "Target": "rayserve_par.planning",
    "Workload": "rayserve_par.planning",
    "plan": "rayserve_par.planning.plan",
    "plan_from_json": "rayserve_par.planning.plan_json",
    "plan_to_json": "rayserve_par.planning.plan_json",
    "build_app": "rayserve_par.control.live.application",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
