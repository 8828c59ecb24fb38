"""Makes `overview.json`, the first dashboard. Run: python -m grafana.generate

Needs the package grafana-foundation-sdk. Where the numbers come from:

- `ray_rayserve_par_*`: the replica (serving/instance_metrics.py), by model, instance_id and node.
- `ray_vllm_*`: vLLM's engine, by model_name and ReplicaId, which is our instance_id; the node is
  joined from `plan_info`, which every instance exports once.
- `ray_serve_*`: Ray Serve's front. `ray_resources`, `ray_node_*`: Ray's nodes; Prometheus calls the
  metrics endpoint that it scraped `instance`, and there is one for each Ray node.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.stat import Panel as Stat
from grafana_foundation_sdk.builders.table import Panel as Table
from grafana_foundation_sdk.builders.timeseries import Panel as TimeSeries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    ValueMap,
    ValueMappingResult,
    VariableRefresh,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from grafana.expressions import FOLDER

FILE = FOLDER / "overview.json"

_DATASOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
_OURS = '{model=~"$model"}'
_VLLM = '{model_name=~"$model"}'
_BY_ENGINE = "{{model_name}} {{ReplicaId}}"
_NODE_OF_REPLICA = (
    "on (ReplicaId) group_left (node)"
    f' label_replace(ray_rayserve_par_plan_info{_OURS}, "ReplicaId", "$1", "instance_id", "(.+)")'
)


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL expression and the legend of its series."""

    expr: str
    legend: str


def _rate(metric: str, selector: str = "") -> str:
    return f"rate({metric}{selector}[$__rate_interval])"


def _quantiles(metric: str) -> list[Query]:
    rates = f"sum by (model, le) ({_rate(f'{metric}_bucket', _OURS)})"
    return [
        Query(f"histogram_quantile({quantile}, {rates})", f"{{{{model}}}} {name}")
        for quantile, name in ((0.5, "p50"), (0.99, "p99"))
    ]


def _target(query: Query, index: int, *, instant: bool) -> Dataquery:
    target = (
        Dataquery()
        .expr(query.expr)
        .legend_format(query.legend)
        .datasource(_DATASOURCE)
        .ref_id(chr(ord("A") + index))
    )
    return target.instant() if instant else target.range()


def _lines(title: str, unit: str, text: str, queries: Sequence[Query], span: int = 8) -> TimeSeries:
    return (
        TimeSeries()
        .title(title)
        .description(text)
        .datasource(_DATASOURCE)
        .unit(unit)
        .min(0)
        .fill_opacity(10)
        .span(span)
        .height(8)
        .targets([_target(query, i, instant=False) for i, query in enumerate(queries)])
    )


def _number(title: str, text: str, query: Query, unit: str = "short") -> Stat:
    return (
        Stat()
        .title(title)
        .description(text)
        .datasource(_DATASOURCE)
        .unit(unit)
        .span(4)
        .height(6)
        .targets([_target(query, 0, instant=True)])
    )


def _plan_table() -> Table:
    labels = "model, layout, auto_layout, target"
    query = Query(f"count by ({labels}) (ray_rayserve_par_plan_info{_OURS})", "")
    return (
        Table()
        .title("Plan and layout by model")
        .description("auto_layout is what the planner would take by itself; Value counts instances")
        .datasource(_DATASOURCE)
        .span(8)
        .height(6)
        .targets([_target(query, 0, instant=True).format(PromQueryFormat.TABLE)])
    )


def _placement() -> Stat:
    query = Query(f"min by (model) (ray_rayserve_par_placement_verified{_OURS})", "{{model}}")
    words = {
        "0": ValueMappingResult(text="mismatch", color="red", index=0),
        "1": ValueMappingResult(text="verified", color="green", index=1),
    }
    text = "Whether Ray's own tables agree with the plan, for the worst instance"
    return _number("Placement", text, query).mappings([ValueMap(options=words)])


def _by_node(title: str, unit: str, text: str, queries: Sequence[Query]) -> TimeSeries:
    return _lines(title, unit, text, queries, span=6)


def overview() -> build.Dashboard:
    """The dashboard of all models of a cluster."""
    return (
        build.Dashboard("rayserve-par overview")
        .uid("rayserve-par-overview")
        .tags(["rayserve-par", "ray", "vllm"])
        .time("now-30m", "now")
        .refresh("10s")
        .with_variable(build.DatasourceVariable("datasource").type("prometheus"))
        .with_variable(
            build.QueryVariable("model")
            .query("label_values(ray_rayserve_par_plan_info, model)")
            .datasource(_DATASOURCE)
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .include_all(True)
            .all_format(".*")
            .multi(True)
        )
        .with_row(build.Row("Plan and placement"))
        .with_panel(_plan_table())
        .with_panel(
            _number(
                "Instances",
                "Instances that have started and report",
                Query(f"count by (model) (ray_rayserve_par_plan_info{_OURS})", "{{model}}"),
            )
        )
        .with_panel(_placement())
        .with_panel(
            _number(
                "GPUs held",
                "GPUs of all instances",
                Query(f"sum by (model) (ray_rayserve_par_instance_gpus{_OURS})", "{{model}}"),
            )
        )
        .with_panel(
            _number(
                "Engine start",
                "From the engine's start to its first token, for the slowest instance",
                Query(
                    f"max by (model) (ray_rayserve_par_engine_start_seconds{_OURS})", "{{model}}"
                ),
                unit="s",
            )
        )
        .with_row(build.Row("Requests"))
        .with_panel(
            _lines(
                "Finished requests by reason",
                "reqps",
                "In the engine: stop, length, abort, error",
                [
                    Query(
                        "sum by (model, reason)"
                        f" ({_rate('ray_rayserve_par_requests_total', _OURS)})",
                        "{{model}} {{reason}}",
                    )
                ],
            )
        )
        .with_panel(
            _lines(
                "Admission by outcome",
                "reqps",
                "In the replica: ok, or the code of the refusal",
                [
                    Query(
                        "sum by (model, outcome)"
                        f" ({_rate('ray_rayserve_par_admission_total', _OURS)})",
                        "{{model}} {{outcome}}",
                    )
                ],
            )
        )
        .with_panel(
            _lines(
                "Requests let through, and the limit",
                "short",
                "Above the limit an instance answers 503",
                [
                    Query(f"sum by (model) ({metric}{_OURS})", f"{{{{model}}}} {name}")
                    for metric, name in (
                        ("ray_rayserve_par_in_flight", "in flight"),
                        ("ray_rayserve_par_concurrency_limit", "limit"),
                    )
                ],
            )
        )
        .with_panel(
            _lines(
                "HTTP requests by status",
                "reqps",
                "At Ray Serve's front, all applications",
                [
                    Query(
                        "sum by (application, status_code)"
                        f" ({_rate('ray_serve_num_http_requests_total')})",
                        "{{application}} {{status_code}}",
                    )
                ],
            )
        )
        .with_panel(
            _lines(
                "Requests in the engines",
                "short",
                "Running share a batch; waiting have no room in it yet",
                [
                    Query(f"sum by (model_name) ({metric}{_VLLM})", f"{{{{model_name}}}} {state}")
                    for metric, state in (
                        ("ray_vllm_num_requests_running", "running"),
                        ("ray_vllm_num_requests_waiting", "waiting"),
                    )
                ],
            )
        )
        .with_row(build.Row("Latency"))
        .with_panel(
            _lines(
                "TTFT",
                "s",
                "Time to first token, in the engine's front",
                _quantiles("ray_rayserve_par_ttft_seconds"),
                span=12,
            )
        )
        .with_panel(
            _lines(
                "TPOT",
                "s",
                "Mean time per output token after the first, by request",
                _quantiles("ray_rayserve_par_tpot_seconds"),
                span=12,
            )
        )
        .with_row(build.Row("Engines"))
        .with_panel(
            _lines(
                "KV cache usage",
                "percentunit",
                "Share of the KV cache's blocks in use, by instance (and DP rank)",
                [
                    Query(
                        "max by (model_name, ReplicaId, engine)"
                        f" (ray_vllm_kv_cache_usage_perc{_VLLM})",
                        f"{_BY_ENGINE} {{{{engine}}}}",
                    )
                ],
            )
        )
        .with_panel(
            _lines(
                "Prompt tokens",
                "tokens/s",
                "Tokens per second of prompts, by instance",
                [_tokens("ray_vllm_prompt_tokens_total")],
            )
        )
        .with_panel(
            _lines(
                "Generated tokens",
                "tokens/s",
                "Tokens per second of answers, by instance",
                [_tokens("ray_vllm_generation_tokens_total")],
            )
        )
        .with_row(build.Row("Nodes"))
        .with_panel(
            _by_node(
                "Instances by node",
                "short",
                "The node of each instance's replica",
                [
                    Query(
                        f"count by (model, node) (ray_rayserve_par_plan_info{_OURS})",
                        "{{model}} {{node}}",
                    )
                ],
            )
        )
        .with_panel(
            _by_node(
                "Running requests by node",
                "short",
                "The node of each instance's replica",
                [
                    Query(
                        "sum by (model_name, node)"
                        f" (ray_vllm_num_requests_running{_VLLM} * {_NODE_OF_REPLICA})",
                        "{{model_name}} {{node}}",
                    )
                ],
            )
        )
        .with_panel(
            _by_node(
                "GPUs by node",
                "short",
                "GPUs that Ray counts, by the node's metrics endpoint",
                [
                    Query('sum by (instance) (ray_resources{Name="GPU"})', "{{instance}} all"),
                    Query(
                        'sum by (instance) (ray_resources{Name="GPU",State="USED"})',
                        "{{instance}} used",
                    ),
                ],
            )
        )
        .with_panel(
            _by_node(
                "CPU and memory by node",
                "percent",
                "By the node's metrics endpoint",
                [
                    Query("max by (instance) (ray_node_cpu_utilization)", "{{instance}} CPU"),
                    Query(
                        "100 * max by (instance) (ray_node_mem_used)"
                        " / max by (instance) (ray_node_mem_total)",
                        "{{instance}} memory",
                    ),
                ],
            )
        )
    )


def _tokens(metric: str) -> Query:
    return Query(f"sum by (model_name, ReplicaId) ({_rate(metric, _VLLM)})", _BY_ENGINE)


def main() -> None:
    """Write the file."""
    text = json.dumps(overview().build(), cls=JSONEncoder, indent=2, sort_keys=True)
    FILE.write_text(f"{text}\n", encoding="utf-8")
    print(f"wrote {FILE}")


if __name__ == "__main__":
    main()
