"""Writes the tables of docs/metrics.md from the registry of metrics and the Prometheus rules.

Run from the repository's root: python -m scripts.metrics_page
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from grafana.expressions import dashboards
from grafana.rules import Rule, all_rules
from rayserve_par.serving.metric_registry import (
    CONTROLLER_METRICS,
    FOREIGN_METRICS,
    INSTANCE_METRICS,
    REPLANNER_METRICS,
    Metric,
)
from rayserve_par.serving.metric_registry.controller import CONTROLLER_LABELS
from rayserve_par.serving.metric_registry.foreign import ForeignMetric
from rayserve_par.serving.metric_registry.instance import INSTANCE_LABELS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "metrics.md"
BEGIN = "<!-- written by scripts/metrics_page.py -->"
END = "<!-- end of what is written -->"
_LABEL = re.compile(r"\{\{ \$labels\.(\w+) \}\}")
_VALUE = re.compile(r"\{\{[^{}]*\$value[^{}]*\}\}")


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _table(heads: tuple[str, ...], rows: Iterable[Iterable[str]]) -> list[str]:
    return [_line(heads), _line(["---"] * len(heads)), *(_line(row) for row in rows), ""]


def _trouble(bad: str, act: str) -> str:
    return f"{bad[0].upper()}{bad[1:]}. {act}" if bad else "-"


def _ours(title: str, common: tuple[str, ...], metrics: Iterable[Metric]) -> list[str]:
    rows = (
        (
            f"`{metric.exported}`",
            f"{metric.kind}, {metric.unit}",
            ", ".join(f"`{label}`" for label in metric.labels if label not in common) or "-",
            metric.text,
            _trouble(metric.bad, metric.act),
        )
        for metric in metrics
    )
    labels = ", ".join(f"`{label}`" for label in common)
    heads = ("metric", "kind, unit", "further labels", "what it is", "bad, and what to do")
    return [f"## {title}", "", f"All carry {labels}.", "", *_table(heads, rows)]


def _foreign(metrics: Iterable[ForeignMetric]) -> list[str]:
    lines = [
        "## Of others",
        "",
        "What the dashboards and rules use of other exporters, as of vLLM 0.32 and Ray 2.60. They "
        "export more.",
        "",
    ]
    for owner, theirs in groupby(metrics, key=lambda one: one.owner):
        rows = (
            (f"`{one.exported}`", one.kind.value, one.text, _trouble(one.bad, one.act))
            for one in theirs
        )
        lines += [f"### {owner}", ""]
        lines += _table(("metric", "kind", "what it is", "bad, and what to do"), rows)
    return lines


def _words(rule: Rule, annotation: str) -> str:
    """An annotation with the names of what Prometheus fills in."""
    text = _LABEL.sub(r"*\1*", rule.found["annotations"][annotation].strip())
    return _VALUE.sub("*value*", text)


def _rules(rules: Iterable[Rule]) -> list[str]:
    found = list(rules)
    alerts = (
        (
            f"`{rule.name}`",
            rule.found["labels"]["severity"],
            rule.found.get("for", "at once"),
            f"{_words(rule, 'summary')}. {_words(rule, 'description')}",
        )
        for rule in found
        if rule.alert
    )
    recorded = ", ".join(f"`{rule.name}`" for rule in found if not rule.alert)
    return [
        "## Alerts",
        "",
        "`page`: users notice now. `ticket`: somebody should look today. `info`: good to know.",
        "",
        *_table(("alert", "severity", "after", "what it means and what to do"), alerts),
        f"Recorded for them and for long looks back: {recorded}.",
        "",
    ]


def _dashboards() -> list[str]:
    names = ", ".join(document["title"].removeprefix("rayserve-par ") for document in dashboards())
    return ["## Dashboards", "", f"In `grafana/`, made by `python -m grafana.generate`: {names}."]


def tables() -> str:
    """All that is written."""
    lines = [
        *_ours("Of instances", INSTANCE_LABELS, INSTANCE_METRICS.values()),
        *_ours("Of the controller", CONTROLLER_LABELS, CONTROLLER_METRICS.values()),
        *_ours("Of the re-planner", CONTROLLER_LABELS, REPLANNER_METRICS.values()),
        *_foreign(FOREIGN_METRICS.values()),
        *_rules(all_rules()),
        *_dashboards(),
    ]
    return "\n".join(lines).rstrip() + "\n"


def page(old: str) -> str:
    """The page with its written part made anew; what stands around it is kept."""
    before, _, rest = old.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{tables()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"wrote {PAGE}")
