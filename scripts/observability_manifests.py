"""Writes the Kubernetes manifests of rules and dashboards from the files that Prometheus and
Grafana read elsewhere.

Run from the repository's root: python -m scripts.observability_manifests
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from grafana.expressions import FOLDER as DASHBOARDS
from grafana.rules import FOLDER, groups

KUBERNETES = FOLDER / "kubernetes"
_WRITTEN = "# Written by `python -m scripts.observability_manifests`.\n"
# What kube-prometheus-stack of the release name `prometheus` selects.
_LABELS = {"release": "prometheus"}


def prometheus_rule() -> dict[str, Any]:
    """All rules as one object of the Prometheus operator."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "rayserve-par", "labels": _LABELS},
        "spec": {"groups": groups()},
    }


def config_maps() -> list[dict[str, Any]]:
    """One ConfigMap for each dashboard, as Grafana's sidecar looks for them."""
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": f"rayserve-par-dashboard-{file.stem.replace('_', '-')}",
                "labels": {"grafana_dashboard": "1"},
                "annotations": {"grafana_folder": "rayserve-par"},
            },
            "data": {file.name: _compact(file)},
        }
        for file in sorted(DASHBOARDS.glob("*.json"))
    ]


def _compact(file: Path) -> str:
    return json.dumps(json.loads(file.read_text(encoding="utf-8")), separators=(",", ":"))


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks, as people write them."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def _yaml(documents: list[dict[str, Any]]) -> str:
    return _WRITTEN + yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, width=100)


def files() -> dict[Path, str]:
    """Every manifest that is written, with its text."""
    return {
        KUBERNETES / "prometheus-rule.yaml": _yaml([prometheus_rule()]),
        KUBERNETES / "dashboards.yaml": _yaml(config_maps()),
    }


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path}")
