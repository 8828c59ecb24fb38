"""Reads our Prometheus rules: every expression with the name of its rule."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parents[1] / "deployments" / "observability"
RULES = FOLDER / "prometheus" / "rules"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `alert` is False for a recorded one; `found` is all of it as written."""

    file: str
    name: str
    expr: str
    alert: bool
    found: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.file} / {self.name}: {' '.join(self.expr.split())}"


def groups(folder: Path = RULES) -> list[dict[str, Any]]:
    """Every group of every rule file, in the order of the files' names."""
    files = sorted(folder.glob("*.yaml"))
    return [
        group
        for file in files
        for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]
    ]


def all_rules(folder: Path = RULES) -> tuple[Rule, ...]:
    """Every rule, recorded ones first, as Prometheus has them after its first round."""
    found = [
        Rule(
            file=file.name,
            name=rule.get("alert") or rule["record"],
            expr=rule["expr"],
            alert="alert" in rule,
            found=rule,
        )
        for file in sorted(folder.glob("*.yaml"))
        for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
    ]
    return tuple(sorted(found, key=lambda rule: rule.alert))
