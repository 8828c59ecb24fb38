"""Configs and plans that the KubeRay tests share."""

from pathlib import Path
from typing import Any

from rayserve_par.control.kuberay import ManifestOptions, PlannedApp, ray_service
from rayserve_par.hardware import parse_cluster
from rayserve_par.serving.app import plan_for
from rayserve_par.serving.config import parse_args
from rayserve_par.serving.model_store.locate import locate_model

REPOSITORY = Path(__file__).resolve().parents[3]
MANIFESTS = REPOSITORY / "deployments" / "kuberay"
CONFIGS = REPOSITORY / "configs"
READY = sorted(
    file.stem for file in CONFIGS.glob("*.yaml") if "logical-cpu" not in file.read_text("utf-8")
)


def planned_app(model: str, hardware: str, **more: Any) -> PlannedApp:
    args = parse_args({"model": model, "hardware": hardware, **more}, "a test")
    located = locate_model(model, prepare=False)
    return PlannedApp(f"app of {model}", args, plan_for(args, located, parse_cluster(hardware)))


def service(*apps: PlannedApp, **options: Any) -> Any:
    http = {"port": options.pop("port", 8000)}
    given = {"name": "test", "image": "an/image:1", **options}
    return ray_service("the config\n", http, apps, ManifestOptions(**given))
