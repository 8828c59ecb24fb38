"""The manifests of the ready configs: up to date, valid, and every bundle fits its pod."""

from functools import cache
from typing import Any

import jsonschema
import pytest
import yaml
from kuberay_cases import CONFIGS, MANIFESTS, READY, REPOSITORY, planned_app, service
from typer.testing import CliRunner

from rayserve_par.cli.main import app
from rayserve_par.control.config_file import read_config
from rayserve_par.control.kuberay.pods import worker_cpus
from rayserve_par.hardware import parse_cluster
from rayserve_par.placement import NodeState, check_fit
from rayserve_par.serving.app import placement_of, plan_for, wanted_replicas
from rayserve_par.serving.model_store.locate import locate_model

CRD = REPOSITORY.parent / "shared" / "kuberay" / "ray.io_rayservices.yaml"
needs_crd = pytest.mark.skipif(
    not CRD.is_file(), reason=f"the RayService CRD is not beside the repository: {CRD.name}"
)


@cache
def crd_schema() -> dict[str, Any]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    crd = yaml.load(CRD.read_text("utf-8"), Loader=loader)
    version = next(one for one in crd["spec"]["versions"] if one["name"] == "v1")
    schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return schema


def unknown_fields(value: Any, schema: dict[str, Any], path: str = "") -> list[str]:
    """Fields that the schema does not name: Kubernetes drops them without a word."""
    if isinstance(value, list):
        inner = schema.get("items", {})
        return [p for one in value for p in unknown_fields(one, inner, f"{path}[]")]
    if not isinstance(value, dict) or schema.get("x-kubernetes-preserve-unknown-fields"):
        return []
    found = []
    for key, one in value.items():
        if key in schema.get("properties", {}):
            found += unknown_fields(one, schema["properties"][key], f"{path}.{key}")
        elif "properties" in schema and "additionalProperties" not in schema:
            found.append(f"{path}.{key}")
    return found


def manifest_of(name: str) -> Any:
    return yaml.safe_load((MANIFESTS / f"{name}.yaml").read_text("utf-8"))


def worker_of(document: Any) -> Any:
    return document["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]


def requests_of(group: Any) -> dict[str, str]:
    container = group["template"]["spec"]["containers"][0]
    requests: dict[str, str] = container["resources"]["requests"]
    return requests


def test_every_ready_config_has_a_manifest() -> None:
    assert sorted(file.stem for file in MANIFESTS.glob("*.yaml")) == READY
    assert len(READY) == 8


@pytest.mark.parametrize("name", READY)
def test_the_committed_manifest_is_what_the_command_writes(name: str) -> None:
    done = CliRunner().invoke(
        app, ["manifest", str(CONFIGS / f"{name}.yaml")], catch_exceptions=False
    )
    assert done.exit_code == 0
    assert done.output == (MANIFESTS / f"{name}.yaml").read_text("utf-8")


@needs_crd
@pytest.mark.parametrize("name", READY)
def test_the_manifest_is_valid_for_the_crd(name: str) -> None:
    document = manifest_of(name)
    jsonschema.validate(document, crd_schema())
    assert unknown_fields(document, crd_schema()) == []


@needs_crd
@pytest.mark.parametrize(
    "document",
    [
        service(
            planned_app(
                "meta-llama/Llama-3.1-405B-Instruct",
                "8x8xH200",
                autoscaling={"min_replicas": 1, "max_replicas": 4},
            )
        ),
        service(planned_app("openai/gpt-oss-120b", "8xMI300X"), model_claim="models", port=9000),
    ],
    ids=["autoscaling", "rocm and claim"],
)
def test_other_documents_are_valid_too(document: Any) -> None:
    jsonschema.validate(document, crd_schema())
    assert unknown_fields(document, crd_schema()) == []


@needs_crd
def test_the_crd_check_sees_mistakes() -> None:
    document = manifest_of(READY[0])
    worker_of(document)["replicas"] = "two"
    with pytest.raises(jsonschema.ValidationError, match="'two' is not of type 'integer'"):
        jsonschema.validate(document, crd_schema())
    document["spec"]["rayClusterConfig"]["headGroup"] = {}
    assert unknown_fields(document, crd_schema()) == [".spec.rayClusterConfig.headGroup"]


@pytest.mark.parametrize("name", READY)
def test_the_config_inside_is_the_config(name: str) -> None:
    text = (CONFIGS / f"{name}.yaml").read_text("utf-8")
    assert manifest_of(name)["spec"]["serveConfigV2"] == text


@pytest.mark.parametrize("name", READY)
def test_every_bundle_fits_a_worker_pod(name: str) -> None:
    groups = {
        one["labels"]["rayserve-par.io/gpu"]: one
        for one in manifest_of(name)["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    }
    for one in read_config(CONFIGS / f"{name}.yaml").apps:
        model = locate_model(one.args.model, prepare=False)
        made = plan_for(one.args, model, parse_cluster(one.args.hardware or ""))
        group = groups[made.node_group.gpu.name]
        requests = requests_of(group)
        gpus, cpus = int(requests["nvidia.com/gpu"]), int(requests["cpu"])
        assert gpus == made.node_group.gpus_per_node
        assert cpus == worker_cpus(gpus)
        placement = placement_of(made)
        for bundle in placement.bundles:
            assert bundle["GPU"] <= gpus
            assert bundle.get("CPU", 0) <= cpus
        pods = [
            NodeState(str(pod), f"pod-{pod}", gpus, gpus, cpus, str(pod))
            for pod in range(group["replicas"])
        ]
        check_fit(placement, pods, wanted_replicas(one.args, made))
        assert gpus * group["maxReplicas"] >= made.layout.gpus
