"""Dashboards and rules name only metrics that exist, and are what their generator makes."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grafana.expressions import (
    FOLDER,
    all_expressions,
    dashboards,
    expressions,
    fill_variables,
)
from grafana.promql import metric_names
from grafana.rules import all_rules
from rayserve_par.serving.metric_registry import (
    CONTROLLER_METRICS,
    FOREIGN_METRICS,
    INSTANCE_METRICS,
    REPLANNER_METRICS,
)

OURS = "ray_rayserve_par_"
VARIABLES = {
    "model": "m",
    "gpu_price": "1",
    "objective": "0.99",
    "__rate_interval": "1m",
    "__range": "1m",
}
OUR_METRICS = {**INSTANCE_METRICS, **CONTROLLER_METRICS, **REPLANNER_METRICS}
RECORDED = {rule.name for rule in all_rules() if not rule.alert}
OUR_SERIES = {name for metric in OUR_METRICS.values() for name in metric.series}
KNOWN = {
    *OUR_SERIES,
    *(name for metric in FOREIGN_METRICS.values() for name in metric.series),
    *RECORDED,
}


def _unknown(exprs: Iterable[str]) -> set[str]:
    return {name for expr in exprs for name in metric_names(expr)} - KNOWN


def _all_exprs() -> list[str]:
    asked = [each.expr for each in all_expressions(VARIABLES)]
    return [*asked, *(rule.expr for rule in all_rules())]


def test_dashboards_and_rules_name_only_metrics_of_the_registry() -> None:
    exprs = _all_exprs()
    assert any(OURS in expr for expr in exprs)
    assert _unknown(exprs) == set()


def test_every_metric_of_ours_is_in_a_dashboard() -> None:
    shown = {name for each in all_expressions(VARIABLES) for name in metric_names(each.expr)}
    unseen = {name for name, metric in OUR_METRICS.items() if not shown & set(metric.series)}
    assert unseen == set()


def test_every_foreign_metric_of_the_registry_is_used() -> None:
    used = {name for expr in _all_exprs() for name in metric_names(expr)}
    unused = {name for name, one in FOREIGN_METRICS.items() if not used & set(one.series)}
    assert unused == set()


def test_labels_in_expressions_are_those_of_the_metric() -> None:
    """A selector or a grouping by a label that a metric lacks would silently give nothing."""
    for expr in _all_exprs():
        for name, selector in re.findall(r"(ray_rayserve_par_\w+)(\{[^{}]*\})", expr):
            metric = next(one for one in OUR_METRICS.values() if name in one.series)
            labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector))
            assert labels <= {*metric.labels, "le"}, f"{name}{selector}"


@pytest.mark.parametrize(
    "expr",
    [
        "max(ray_rayserve_par_ttft_minutes_bucket)",
        "sum(rate(vllm_num_requests_running[1m]))",
        "max(ray_rayserve_par_ttft_seconds)",
        "model:rayserve_par_nothing:rate5m > 1",
    ],
)
def test_a_panel_with_an_unknown_metric_is_found(tmp_path: Path, expr: str) -> None:
    good = "sum(rate(ray_rayserve_par_ttft_seconds_bucket[1m]))"
    panel = {"title": "a panel", "targets": [{"expr": good}, {"expr": expr}]}
    document = {
        "title": "wrong",
        "panels": [{"type": "row", "title": "a row", "panels": [panel]}],
    }
    (tmp_path / "wrong.json").write_text(json.dumps(document), encoding="utf-8")
    exprs = [each.expr for each in all_expressions({}, tmp_path)]
    assert len(exprs) == 2
    assert _unknown(exprs) == set(metric_names(expr))


def test_dashboards_are_what_their_generator_makes() -> None:
    pytest.importorskip("grafana_foundation_sdk")
    generate = importlib.import_module("grafana.generate")
    files = {file.stem: file.read_text(encoding="utf-8") for file in FOLDER.glob("*.json")}
    assert files.keys() == set(generate.DASHBOARDS)
    for name, text in files.items():
        assert text == generate.text_of(name), "run: python -m grafana.generate"


def test_dashboards_differ_in_title_and_uid() -> None:
    found = list(dashboards())
    assert len({one["uid"] for one in found}) == len({one["title"] for one in found}) == len(found)


def test_every_target_uses_the_datasource_variable() -> None:
    for document in dashboards():
        targets = [target for panel in document["panels"] for target in panel.get("targets", ())]
        assert len(targets) == sum("variable" not in each.panel for each in expressions(document))
        assert {target["datasource"]["uid"] for target in targets} == {"${datasource}"}


@pytest.mark.parametrize(
    ("expr", "filled"),
    [
        ('a{m=~"$model"}', 'a{m=~"llama"}'),
        ('a{m=~"${model}"}', 'a{m=~"llama"}'),
        ('a{m=~"${model:regex}"}', 'a{m=~"llama"}'),
        ("rate(a[$__rate_interval])", "rate(a[1m])"),
        ('label_replace(a, "x", "$1", "y", "(.+)")', 'label_replace(a, "x", "$1", "y", "(.+)")'),
        ('a{m=~"^b$"}', 'a{m=~"^b$"}'),
    ],
)
def test_fill_variables(expr: str, filled: str) -> None:
    assert fill_variables(expr, {"model": "llama", "__rate_interval": "1m"}) == filled


def test_fill_variables_refuses_an_unknown_one() -> None:
    with pytest.raises(KeyError, match="cluster"):
        fill_variables('a{c="$cluster"}', {"model": "llama"})


@given(
    name=st.from_regex(r"[A-Za-z_][A-Za-z0-9_]*", fullmatch=True),
    value=st.text(),
    around=st.text().filter(lambda text: "$" not in text),
)
def test_both_ways_to_write_a_variable_mean_the_same(name: str, value: str, around: str) -> None:
    for written in (f"${{{name}}}", f"${{{name}:regex}}"):
        assert fill_variables(f"{around}{written}", {name: value}) == around + value


@pytest.mark.parametrize(
    ("query", "expr"),
    [
        ("label_values(ray_a, model)", "group by (model) (ray_a)"),
        ({"query": 'label_values(ray_a{x="1"}, node)'}, 'group by (node) (ray_a{x="1"})'),
    ],
)
def test_query_variables_count_as_expressions(query: Any, expr: str) -> None:
    document = {"title": "d", "templating": {"list": [_variable(query)]}}
    assert [each.expr for each in expressions(document)] == [expr]


def test_other_query_variables_are_refused() -> None:
    document = {"title": "d", "templating": {"list": [_variable("metrics(ray_.*)")]}}
    with pytest.raises(ValueError, match=re.escape("metrics(ray_.*)")):
        list(expressions(document))


def _variable(query: Any) -> dict[str, Any]:
    return {"type": "query", "name": "v", "query": query}
