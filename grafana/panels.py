"""What our dashboards are built of: panels with a title, a unit, a text and PromQL queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.stat import Panel as Stat
from grafana_foundation_sdk.builders.table import Panel as Table
from grafana_foundation_sdk.builders.timeseries import Panel as TimeSeries
from grafana_foundation_sdk.models.dashboard import DataSourceRef, VariableRefresh
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

DATASOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL expression and the legend of its series."""

    expr: str
    legend: str


def _target(query: Query, index: int, *, instant: bool) -> Dataquery:
    target = (
        Dataquery()
        .expr(query.expr)
        .legend_format(query.legend)
        .datasource(DATASOURCE)
        .ref_id(chr(ord("A") + index))
    )
    return target.instant() if instant else target.range()


def lines(title: str, unit: str, text: str, queries: Sequence[Query], span: int = 8) -> TimeSeries:
    """Curves over time."""
    return (
        TimeSeries()
        .title(title)
        .description(text)
        .datasource(DATASOURCE)
        .unit(unit)
        .min(0)
        .fill_opacity(10)
        .span(span)
        .height(8)
        .targets([_target(query, i, instant=False) for i, query in enumerate(queries)])
    )


def number(
    title: str, text: str, query: Query, unit: str = "short", span: int = 4, height: int = 6
) -> Stat:
    """The present value of each series."""
    return (
        Stat()
        .title(title)
        .description(text)
        .datasource(DATASOURCE)
        .unit(unit)
        .span(span)
        .height(height)
        .targets([_target(query, 0, instant=True)])
    )


def table(title: str, text: str, expr: str, span: int = 8, height: int = 6) -> Table:
    """One row for each series now, its labels as columns."""
    target = _target(Query(expr, ""), 0, instant=True).format(PromQueryFormat.TABLE)
    return (
        Table()
        .title(title)
        .description(text)
        .datasource(DATASOURCE)
        .span(span)
        .height(height)
        .targets([target])
    )


def row(title: str) -> build.Row:
    """A headline over panels."""
    return build.Row(title)


def dashboard(title: str, uid: str, *, several_models: bool = True) -> build.Dashboard:
    """A dashboard with a choice of data source and of models (or of one model), without panels."""
    model = (
        build.QueryVariable("model")
        .query("label_values(ray_rayserve_par_plan_info, model)")
        .datasource(DATASOURCE)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
    )
    if several_models:
        model = model.include_all(True).all_format(".*").multi(True)
    return (
        build.Dashboard(title)
        .uid(uid)
        .tags(["rayserve-par", "ray", "vllm"])
        .time("now-30m", "now")
        .refresh("10s")
        .with_variable(build.DatasourceVariable("datasource").type("prometheus"))
        .with_variable(model)
    )
