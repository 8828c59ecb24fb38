"""The compose file and the Kubernetes manifests: current, and what they point at is there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from grafana.expressions import FOLDER as DASHBOARDS
from grafana.expressions import dashboards
from grafana.rules import FOLDER, groups
from scripts.observability_manifests import KUBERNETES, files

COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
# The most that kubectl can keep of an object that it applies from the client's side.
KUBECTL_BYTES = 262_144
DNS_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def _provisioned(kind: str) -> Any:
    [file] = (FOLDER / "grafana" / "provisioning" / kind).iterdir()
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def _mounts(service: str) -> dict[str, str]:
    """Where things are in the container, and what they are outside."""
    found = {}
    for volume in SERVICES[service]["volumes"]:
        outside, inside = re.fullmatch(r"(\$\{[^}]*\}|[^:]*):([^:]*)(?::ro)?", volume).groups()  # type: ignore[union-attr]
        found[inside] = outside
    return found


@pytest.mark.parametrize("path", files(), ids=lambda path: path.name)
def test_manifests_are_current(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == files()[path], (
        "run: python -m scripts.observability_manifests"
    )


@pytest.mark.parametrize("service", SERVICES)
def test_what_compose_mounts_is_there(service: str) -> None:
    outside = [path for path in _mounts(service).values() if path.startswith(".")]
    assert outside
    for path in outside:
        assert (FOLDER / path).exists(), path
    named = {path for path in _mounts(service).values() if re.fullmatch(r"\w+", path)}
    assert named <= COMPOSE["volumes"].keys()


@pytest.mark.parametrize("service", SERVICES)
def test_images_have_a_version(service: str) -> None:
    assert re.fullmatch(r"[a-z./-]+:v?\d+\.\d+\.\d+", SERVICES[service]["image"])


def test_prometheus_finds_its_configuration_and_rays_nodes() -> None:
    mounts = _mounts("prometheus")
    command = dict(word[2:].split("=", 1) for word in SERVICES["prometheus"]["command"])
    config = yaml.safe_load((FOLDER / mounts[command["config.file"]]).read_text(encoding="utf-8"))
    [rules] = config["rule_files"]
    assert Path(rules).parent.as_posix() in mounts
    [job] = config["scrape_configs"]
    assert job["job_name"] == "ray", "the alert of nodes that do not answer looks for it"
    [discovery] = job["file_sd_configs"][0]["files"]
    assert mounts[Path(discovery).parent.as_posix()] == "${RAY_TMP:-/tmp/ray}"
    assert Path(discovery).name == "prom_metrics_service_discovery.json"
    assert command["web.listen-address"].startswith("127.0.0.1:")


def test_grafana_finds_prometheus_and_the_dashboards() -> None:
    environment, mounts = SERVICES["grafana"]["environment"], _mounts("grafana")
    [source] = _provisioned("datasources")["datasources"]
    assert source["isDefault"]
    assert environment[source["url"].removeprefix("$")].startswith("http://127.0.0.1:")
    [provider] = _provisioned("dashboards")["providers"]
    folder = provider["options"]["path"]
    assert (FOLDER / mounts[folder]).resolve() == DASHBOARDS.resolve()
    home = environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (DASHBOARDS / Path(home).relative_to(folder)).is_file()
    assert environment["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"
    assert environment["GF_SECURITY_ADMIN_PASSWORD"].startswith("${GRAFANA_PASSWORD:?")


def test_kustomization_names_every_manifest() -> None:
    found = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text(encoding="utf-8"))
    others = {file.name for file in KUBERNETES.glob("*.yaml")} - {"kustomization.yaml"}
    assert set(found["resources"]) == others


def test_the_operators_rules_are_prometheus_rules() -> None:
    rule = yaml.safe_load((KUBERNETES / "prometheus-rule.yaml").read_text(encoding="utf-8"))
    assert (rule["apiVersion"], rule["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert rule["spec"]["groups"] == groups()
    names = [group["name"] for group in groups()]
    assert len(set(names)) == len(names), "the operator keeps groups by name"
    for one in (rule for group in groups() for rule in group["rules"]):
        assert set(one) <= {"alert", "record", "expr", "for", "labels", "annotations"}
        assert ("alert" in one) is not ("record" in one)


def test_each_dashboard_has_a_config_map_that_kubectl_can_keep() -> None:
    text = (KUBERNETES / "dashboards.yaml").read_text(encoding="utf-8")
    maps = list(yaml.safe_load_all(text))
    found = [json.loads(value) for one in maps for value in one["data"].values()]
    by_uid = {document["uid"]: document for document in found}
    assert by_uid == {document["uid"]: document for document in dashboards()}
    names = [one["metadata"]["name"] for one in maps]
    assert len(set(names)) == len(names)
    for one in maps:
        assert DNS_NAME.fullmatch(one["metadata"]["name"])
        assert one["metadata"]["labels"] == {"grafana_dashboard": "1"}
        assert len(json.dumps(one)) < KUBECTL_BYTES


def test_the_pod_monitor_selects_what_kuberay_makes() -> None:
    monitor = yaml.safe_load((KUBERNETES / "pod-monitor.yaml").read_text(encoding="utf-8"))
    assert (monitor["apiVersion"], monitor["kind"]) == ("monitoring.coreos.com/v1", "PodMonitor")
    assert monitor["spec"]["selector"] == {"matchLabels": {"ray.io/is-ray-node": "yes"}}
    [endpoint] = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] == "metrics"
    jobs = [one for one in endpoint["relabelings"] if one["targetLabel"] == "job"]
    assert [one["replacement"] for one in jobs] == ["ray"]
