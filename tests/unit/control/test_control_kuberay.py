"""What goes into a RayService, and how many pods."""

import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from kuberay_cases import CONFIGS, planned_app, service
from typer.testing import CliRunner

from rayserve_par.cli.main import app
from rayserve_par.control.kuberay import ManifestOptions, manifest_text, worker_counts
from rayserve_par.control.kuberay.gpus_joined import joined
from rayserve_par.control.kuberay.manifest import RAY_VERSION
from rayserve_par.control.kuberay.pods import GPU_LABEL, HAPROXY_LAUNCHER_IN_IMAGE
from rayserve_par.errors import RefusedError

SMOL = "HuggingFaceTB/SmolLM2-135M-Instruct"
LLAMA_8B = "meta-llama/Llama-3.1-8B-Instruct"
LLAMA_405B = "meta-llama/Llama-3.1-405B-Instruct"
GPT_OSS = "openai/gpt-oss-120b"
DP_EP = {"tp": 8, "dp": 2, "ep": 16, "across": "nodes"}


def scaling(least: int, most: int) -> dict[str, dict[str, int]]:
    return {"autoscaling": {"min_replicas": least, "max_replicas": most}}


@pytest.mark.parametrize(
    ("model", "hardware", "more", "replicas", "most"),
    [
        (LLAMA_8B, "8xH100", {}, 1, 1),
        (LLAMA_8B, "8xH100", scaling(1, 8), 1, 1),
        (LLAMA_8B, "4x8xH100", scaling(1, 17), 1, 3),
        (LLAMA_8B, "4x8xH100", scaling(9, 32), 2, 4),
        # autoscaling never orders more nodes than the hardware names
        (LLAMA_8B, "2x8xH100", scaling(1, 100), 1, 2),
        (LLAMA_8B, "2x8xH100", {"num_replicas": "fit"}, 2, 2),
        (LLAMA_8B, "2x8xH100", {"num_replicas": 8}, 1, 1),
        (LLAMA_8B, "2x8xH100", {"num_replicas": 9}, 2, 2),
        (LLAMA_405B, "2x8xH100", {}, 2, 2),
        (LLAMA_405B, "8x8xH100", scaling(1, 3), 2, 6),
        (GPT_OSS, "3x8xH100", {"num_replicas": 20}, 3, 3),
        ("deepseek-ai/DeepSeek-V3.1", "6x8xH200", {"layout": DP_EP, **scaling(1, 2)}, 2, 4),
        # three stages on three nodes; the second instance shares them
        (
            SMOL,
            "4x2xL4",
            {"layout": {"pp": 3, "across": "nodes"}, "num_replicas": 2},
            3,
            3,
        ),
    ],
)
def test_pods_are_the_nodes_that_the_instances_need(
    model: str, hardware: str, more: dict[str, Any], replicas: int, most: int
) -> None:
    [found] = worker_counts([planned_app(model, hardware, **more)])
    assert (found.replicas, found.max_replicas) == (replicas, most)
    document = service(planned_app(model, hardware, **more))
    cluster = document["spec"]["rayClusterConfig"]
    group = cluster["workerGroupSpecs"][0]
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (
        replicas,
        replicas,
        most,
    )
    assert cluster["enableInTreeAutoscaling"] is (most > replicas)
    assert ("autoscalerOptions" in cluster) is (most > replicas)


def test_applications_add_up() -> None:
    two = [planned_app(LLAMA_8B, "4x8xH100", num_replicas=9), planned_app(GPT_OSS, "4x8xH100")]
    assert [one.replicas for one in worker_counts(two)] == [3]


def test_each_kind_of_node_has_its_worker_pods() -> None:
    hardware = "2x8xH100,1x8xH200"
    apps = [
        planned_app(LLAMA_8B, hardware, node_group="H100", **scaling(1, 16)),
        planned_app(LLAMA_8B, hardware, node_group="H200", num_replicas=8),
    ]
    cluster = service(*apps)["spec"]["rayClusterConfig"]
    assert cluster["enableInTreeAutoscaling"]
    assert [
        (one["groupName"], one["replicas"], one["maxReplicas"], one["labels"])
        for one in cluster["workerGroupSpecs"]
    ] == [
        ("h100-nodes", 1, 2, {"rayserve-par.io/gpu": "H100"}),
        ("h200-nodes", 1, 1, {"rayserve-par.io/gpu": "H200"}),
    ]
    head = cluster["headGroupSpec"]["template"]["spec"]["containers"][0]
    assert head["startupProbe"]["exec"]["command"][-1] == "16"


@pytest.mark.parametrize(
    ("apps", "parts"),
    [
        (
            [planned_app(SMOL, "2x2xlogical-cpu")],
            ("2x2xlogical-cpu", "logical GPUs", "rayserve-par serve"),
        ),
        (
            [planned_app(LLAMA_8B, "8xH100"), planned_app(LLAMA_8B, "8xH200")],
            ("different kinds of nodes", "1x8xH100", "1x8xH200", "Give each a node_group"),
        ),
        (
            [
                planned_app(LLAMA_8B, "8xH100", node_group="H100"),
                planned_app(LLAMA_8B, "1x4xH100", node_group="H100"),
            ],
            ("in two sizes", "1x8xH100", "1x4xH100"),
        ),
        (
            [planned_app(LLAMA_8B, "8xH100"), planned_app(GPT_OSS, "8xH100")],
            ("need 2 nodes together", "1x8xH100 has 1"),
        ),
        ([planned_app(LLAMA_8B, "8xH100", **scaling(9, 9))], ("need 2 nodes together",)),
    ],
)
def test_refusals(apps: list[Any], parts: tuple[str, ...]) -> None:
    with pytest.raises(RefusedError) as refusal:
        service(*apps)
    for part in parts:
        assert part in str(refusal.value)


@pytest.mark.parametrize("secret", ["rayserve-par-keys", None])
def test_pods_serve_the_network_with_keys_or_openly(secret: str | None) -> None:
    document = service(planned_app(LLAMA_8B, "8xH100"), keys_secret=secret)
    cluster = document["spec"]["rayClusterConfig"]
    for group in (cluster["headGroupSpec"], cluster["workerGroupSpecs"][0]):
        pod = group["template"]["spec"]
        container = pod["containers"][0]
        env = {one["name"]: one["value"] for one in container["env"] if "value" in one}
        assert env["RAYSERVE_PAR_FRONT_HOST"] == "0.0.0.0"
        assert ("RAYSERVE_PAR_OPEN" in env) == (secret is None)
        mounts = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
        volumes = {one["name"]: one for one in pod["volumes"]}
        assert ("api-keys" in mounts) == ("api-keys" in volumes) == (secret is not None)
        if secret is not None:
            assert volumes["api-keys"]["secret"]["secretName"] == secret
            assert env["RAYSERVE_PAR_KEYS_FILE"] == f"{mounts['api-keys']}/keys.yaml"


def test_head_and_workers_agree() -> None:
    cluster = service(planned_app(LLAMA_405B, "2x8xH100"), port=9000)["spec"]["rayClusterConfig"]
    head_group, worker_group = cluster["headGroupSpec"], cluster["workerGroupSpecs"][0]
    head = head_group["template"]["spec"]["containers"][0]
    worker = worker_group["template"]["spec"]["containers"][0]
    for container in (head, worker):
        env = {one["name"]: one.get("value") for one in container["env"]}
        assert env["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
        assert env["RAY_SERVE_HAPROXY_BINARY_PATH"] == HAPROXY_LAUNCHER_IN_IMAGE
        token = next(one for one in container["env"] if one["name"] == "HF_TOKEN")
        assert token["valueFrom"]["secretKeyRef"]["optional"] is True
        assert {"containerPort": 9000, "name": "serve"} in container["ports"]
        assert container["image"] == "an/image:1"
    assert head_group["rayStartParams"]["num-gpus"] == "0"
    assert "nvidia.com/gpu" not in head["resources"]["requests"]
    assert head["startupProbe"]["exec"]["command"][-1] == "16"
    assert worker["readinessProbe"]["httpGet"] == {"path": "/-/healthz", "port": 9000}
    # KubeRay refuses labels in rayStartParams.
    assert worker_group["labels"] == {GPU_LABEL: "H100"}
    assert "labels" not in worker_group["rayStartParams"]


@pytest.mark.parametrize(
    ("hardware", "resource", "other"),
    [
        ("8xH100", "nvidia.com/gpu", "amd.com/gpu"),
        ("8xMI300X", "amd.com/gpu", "nvidia.com/gpu"),
    ],
)
def test_gpu_resources_follow_the_maker(hardware: str, resource: str, other: str) -> None:
    document = service(planned_app(GPT_OSS, hardware))
    pod = document["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["template"]["spec"]
    resources = pod["containers"][0]["resources"]
    assert resources["limits"][resource] == resources["requests"][resource] == "8"
    assert other not in resources["limits"]
    assert pod["tolerations"] == [{"key": resource, "operator": "Exists", "effect": "NoSchedule"}]
    assert pod["nodeSelector"] == {GPU_LABEL: hardware.removeprefix("8x")}
    mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    assert mounts == {"shared-memory": "/dev/shm", "models": "/models"}
    assert {volume["name"] for volume in pod["volumes"]} == set(mounts)
    assert pod["volumes"][0]["emptyDir"]["medium"] == "Memory"


@pytest.mark.parametrize("claim", [None, "shared-models"])
def test_where_models_are_kept(claim: str | None) -> None:
    document = service(planned_app(GPT_OSS, "8xH100"), model_claim=claim)
    pod = document["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["template"]["spec"]
    volume = next(one for one in pod["volumes"] if one["name"] == "models")
    if claim is None:
        assert volume["hostPath"]["type"] == "DirectoryOrCreate"
    else:
        assert volume["persistentVolumeClaim"] == {"claimName": claim}
        assert "hostPath" not in volume


@pytest.mark.parametrize(
    ("name", "kubernetes_name"),
    [
        ("llama-3.1-405b-h100", "llama-3-1-405b-h100"),
        ("DeepSeek_V3.1", "deepseek-v3-1"),
        ("8b-of-llama", "b-of-llama"),
        ("a" * 46 + ".bcd", "a" * 46),
    ],
)
def test_names_are_kubernetes_names(name: str, kubernetes_name: str) -> None:
    assert ManifestOptions(name, "i").kubernetes_name == kubernetes_name


@given(st.text(max_size=80))
def test_a_name_is_valid_or_refused(name: str) -> None:
    try:
        found = ManifestOptions(name, "i").kubernetes_name
    except RefusedError:
        assert not re.search(r"[a-z]", name.lower())
    else:
        assert re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", found)
        assert len(found) <= 47


@given(
    st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=60)
)
def test_the_text_says_what_the_document_says(line: str) -> None:
    document = {"kind": "RayService", "spec": {"serveConfigV2": f"# {line}\na: 1\n", "x": line}}
    text = manifest_text(document, "configs/x.yaml")
    assert yaml.safe_load(text) == document
    assert text.startswith("# Made by `rayserve-par manifest configs/x.yaml`")


@pytest.mark.parametrize(
    ("resources", "wanted", "ready"),
    [
        ({}, 8, False),
        ({"GPU": 8.0}, 16, False),
        ({"GPU": 16.0}, 16, True),
        ({"GPU": 24.0}, 16, True),
    ],
)
def test_the_head_waits_for_the_gpus(resources: dict[str, float], wanted: int, ready: bool) -> None:
    assert joined(resources, wanted) is ready


def test_the_command_writes_a_file(tmp_path: Path) -> None:
    out = tmp_path / "service.yaml"
    config = str(CONFIGS / "gpt-oss-120b-h100.yaml")
    done = CliRunner().invoke(
        app,
        ["manifest", config, "--image", "r/i:9", "--out", str(out), "--model-claim", "shared"],
        catch_exceptions=False,
    )
    assert done.exit_code == 0
    text = out.read_text("utf-8")
    assert text.count("image: r/i:9") == 2
    assert "claimName: shared" in text
    assert yaml.safe_load(text)["metadata"]["name"] == "gpt-oss-120b-h100"


def test_names_and_versions_agree_with_the_rest() -> None:
    from rayserve_par.serving.cluster_view import GPU_LABEL as LABEL_READ_ON_THE_CLUSTER

    assert GPU_LABEL == LABEL_READ_ON_THE_CLUSTER
    assert version("ray") == RAY_VERSION
