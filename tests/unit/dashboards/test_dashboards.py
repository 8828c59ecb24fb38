"""Dashboards name only metrics that the code exports, and are what their generator makes."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grafana.expressions import (
    all_expressions,
    dashboards,
    expressions,
    fill_variables,
    histogram_base,
    metric_names,
)

_OURS = "ray_rayserve_par_"
_VARIABLES = {"model": "m", "__rate_interval": "1m"}


class _Recorder:
    """Stands in for Ray's metric classes and remembers names and tag keys."""

    def __init__(self, made: dict[str, tuple[str, ...]]) -> None:
        self._made = made

    def __call__(self, name: str, *, tag_keys: tuple[str, ...], **_: Any) -> _Recorder:
        self._made[f"ray_{name}"] = tag_keys
        return self

    def set_default_tags(self, tags: Mapping[str, str]) -> None:
        assert all(tags.values())


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[str, ...]]:
    """Name and labels of each metric that an instance makes."""
    pytest.importorskip("ray")
    module = importlib.import_module("rayserve_par.serving.instance_metrics")
    made: dict[str, tuple[str, ...]] = {}
    for kind in ("Counter", "Gauge", "Histogram"):
        monkeypatch.setattr(module, kind, _Recorder(made))
    module.instance_metrics(model="m", instance="i", node="n")
    return made


def _unknown(exprs: list[str], exported: Mapping[str, tuple[str, ...]]) -> set[str]:
    names = {histogram_base(name) for expr in exprs for name in metric_names(expr)}
    return {name for name in names if name.startswith(_OURS)} - exported.keys()


def test_every_metric_of_ours_in_a_dashboard_is_exported(
    exported: dict[str, tuple[str, ...]],
) -> None:
    exprs = [each.expr for each in all_expressions(_VARIABLES)]
    assert any(_OURS in expr for expr in exprs)
    assert _unknown(exprs, exported) == set()


def test_every_exported_metric_is_in_a_dashboard(exported: dict[str, tuple[str, ...]]) -> None:
    shown = {
        histogram_base(name)
        for each in all_expressions(_VARIABLES)
        for name in metric_names(each.expr)
    }
    assert set(exported) - shown == set()


def test_labels_that_the_dashboards_rely_on_are_exported(
    exported: dict[str, tuple[str, ...]],
) -> None:
    for name, labels in exported.items():
        assert {"model", "instance_id", "node"} <= set(labels), name
        # Prometheus gives `instance` and `job` to what it scrapes, and renames ours.
        assert not {"instance", "job", "le"} & set(labels), name


def test_a_panel_with_an_unknown_metric_is_found(
    tmp_path: Path, exported: dict[str, tuple[str, ...]]
) -> None:
    document = {
        "title": "wrong",
        "panels": [
            {
                "type": "row",
                "title": "a row",
                "panels": [
                    {
                        "title": "a panel",
                        "targets": [
                            {"expr": "sum(rate(ray_rayserve_par_ttft_seconds_bucket[1m]))"},
                            {"expr": "max(ray_rayserve_par_ttft_minutes_bucket)"},
                        ],
                    }
                ],
            }
        ],
    }
    (tmp_path / "wrong.json").write_text(json.dumps(document), encoding="utf-8")
    exprs = [each.expr for each in all_expressions({}, tmp_path)]
    assert len(exprs) == 2
    assert _unknown(exprs, exported) == {"ray_rayserve_par_ttft_minutes"}


def test_overview_is_what_its_generator_makes() -> None:
    pytest.importorskip("grafana_foundation_sdk")
    generate = importlib.import_module("grafana.generate")
    encoder = importlib.import_module("grafana_foundation_sdk.cog.encoder").JSONEncoder
    made = json.loads(json.dumps(generate.overview().build(), cls=encoder))
    assert json.loads(generate.FILE.read_text(encoding="utf-8")) == made, (
        "run: python -m grafana.generate"
    )


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
