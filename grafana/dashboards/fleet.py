"""All models of a cluster: plan, control, requests, latency, cost, engines, nodes."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders.stat import Panel as Stat
from grafana_foundation_sdk.models.dashboard import ValueMap, ValueMappingResult

from grafana.panels import Query, dashboard, lines, number, row, table
from grafana.queries import (
    OURS,
    VLLM,
    controlled,
    list_price_per_hour,
    price_per_million_tokens,
    quantiles,
    rate,
    total,
)

_BY_ENGINE = "{{model_name}} {{ReplicaId}}"
_BY_APPLICATION = "{{application}}"


def _placement() -> Stat:
    query = Query(f"min by (model) (ray_rayserve_par_placement_verified{OURS})", "{{model}}")
    words = {
        "0": ValueMappingResult(text="mismatch", color="red", index=0),
        "1": ValueMappingResult(text="verified", color="green", index=1),
    }
    text = "Whether Ray's own tables agree with the plan, for the worst instance"
    return number("Placement", text, query).mappings([ValueMap(options=words)])


def fleet() -> build.Dashboard:
    """The dashboard."""
    made = dashboard("rayserve-par fleet", "rayserve-par-fleet").with_variable(
        build.TextBoxVariable("gpu_price")
        .label("your price of a GPU-hour")
        .default_value("1")
        .description("With 1, cost at your price is in GPU-hours")
    )
    for part in (_plan(), _control(), _requests(), _latency(), _cost(), _engines(), _nodes()):
        made = made.with_row(row(part[0]))
        for panel in part[1]:
            made = made.with_panel(panel)
    return made


def _plan() -> tuple[str, list[object]]:
    labels = "model, layout, auto_layout, target"
    return "Plan and placement", [
        table(
            "Plan and layout by model",
            "auto_layout is what the planner would take by itself; Value counts instances",
            f"count by ({labels}) (ray_rayserve_par_plan_info{OURS})",
        ),
        number(
            "Instances",
            "Instances that have started and report",
            Query(f"count by (model) (ray_rayserve_par_plan_info{OURS})", "{{model}}"),
        ),
        _placement(),
        number(
            "GPUs held",
            "GPUs of all instances",
            Query(total(f"ray_rayserve_par_instance_gpus{OURS}"), "{{model}}"),
        ),
        number(
            "Engine start",
            "From the engine's start to its first token, for the slowest instance",
            Query(f"max by (model) (ray_rayserve_par_engine_start_seconds{OURS})", "{{model}}"),
            unit="s",
        ),
    ]


def _control() -> tuple[str, list[object]]:
    states = f"max by (application, state) (ray_rayserve_par_instances{OURS})"
    return "Control", [
        lines(
            "Instances wanted and there",
            "short",
            "Wanted is what Serve was told to run; decided is what the policy found",
            [
                Query(controlled("instances_wanted"), f"{_BY_APPLICATION} wanted"),
                Query(controlled("instances_decided"), f"{_BY_APPLICATION} decided"),
                Query(states, f"{_BY_APPLICATION} {{{{state}}}}"),
            ],
        ),
        lines(
            "Limits of the number",
            "short",
            "Room: further instances that the free GPUs hold, where that is known",
            [
                Query(controlled("instances_least"), f"{_BY_APPLICATION} least"),
                Query(controlled("instances_most"), f"{_BY_APPLICATION} most"),
                Query(controlled("instances_room"), f"{_BY_APPLICATION} room"),
            ],
        ),
        lines(
            "Decisions by reason",
            "ops",
            "Looks per second; docs/autoscaling.md explains the reasons",
            [
                Query(
                    "sum by (application, reason)"
                    f" ({rate('ray_rayserve_par_decisions_total', OURS)})",
                    f"{_BY_APPLICATION} {{{{reason}}}}",
                )
            ],
        ),
        table(
            "Mode",
            "acting, dry_run, paused or overridden",
            f"count by (application, model, layout, mode) (ray_rayserve_par_control_info{OURS})",
            span=8,
        ),
        number(
            "Problems",
            "What the controller complains about; `rayserve-par status` prints the words",
            Query(controlled("control_problems"), _BY_APPLICATION),
        ),
        number(
            "Changes",
            "Times that the wanted number changed since Serve's controller started",
            Query(
                "sum by (application, direction)"
                f" (ray_rayserve_par_instance_changes_total{OURS})"
                f" or {controlled('instances_wanted')} * 0",
                f"{_BY_APPLICATION} {{{{direction}}}}",
            ),
        ),
        number(
            "Layout changes",
            "Times that the re-planner changed the layout since it started",
            Query(
                "sum by (application, action)"
                f" (ray_rayserve_par_layout_changes_total{OURS})"
                f" or {controlled('instances_wanted')} * 0",
                f"{_BY_APPLICATION} {{{{action}}}}",
            ),
        ),
        number(
            "Re-planning",
            "Decisions of the re-planner since it started; docs/replanning.md explains the reasons",
            Query(
                "sum by (application, action, why, outcome)"
                f" (ray_rayserve_par_replan_decisions_total{OURS})"
                f" or {controlled('instances_wanted')} * 0",
                f"{_BY_APPLICATION} {{{{action}}}} {{{{why}}}} {{{{outcome}}}}",
            ),
        ),
        number(
            "Last look",
            "Seconds since the controller looked",
            Query(f"time() - {controlled('control_look_timestamp_seconds')}", _BY_APPLICATION),
            unit="s",
        ),
        number(
            "Oldest report",
            "Age of the oldest report among an application's instances",
            Query(controlled("control_oldest_report_seconds"), _BY_APPLICATION),
            unit="s",
        ),
    ]


def _requests() -> tuple[str, list[object]]:
    return "Requests", [
        lines(
            "Finished requests by reason",
            "reqps",
            "In the engine: stop, length, abort, error",
            [
                Query(
                    f"sum by (model, reason) ({rate('ray_rayserve_par_requests_total', OURS)})",
                    "{{model}} {{reason}}",
                )
            ],
        ),
        lines(
            "Admission by outcome",
            "reqps",
            "In the replica: ok, or the code of the refusal",
            [
                Query(
                    f"sum by (model, outcome) ({rate('ray_rayserve_par_admission_total', OURS)})",
                    "{{model}} {{outcome}}",
                )
            ],
        ),
        lines(
            "Requests let through, and the limit",
            "short",
            "Above the limit an instance answers 503",
            [
                Query(total(f"{metric}{OURS}"), f"{{{{model}}}} {name}")
                for metric, name in (
                    ("ray_rayserve_par_in_flight", "in flight"),
                    ("ray_rayserve_par_concurrency_limit", "limit"),
                )
            ],
        ),
        lines(
            "HTTP requests by status",
            "reqps",
            "At Ray Serve's front, all applications",
            [
                Query(
                    "sum by (application, status_code)"
                    f" ({rate('ray_serve_num_http_requests_total')})",
                    "{{application}} {{status_code}}",
                )
            ],
        ),
        lines(
            "Requests in the engines",
            "short",
            "Running share a batch; waiting have no room in it yet",
            [
                Query(f"sum by (model_name) ({metric}{VLLM})", f"{{{{model_name}}}} {state}")
                for metric, state in (
                    ("ray_vllm_num_requests_running", "running"),
                    ("ray_vllm_num_requests_waiting", "waiting"),
                )
            ],
        ),
    ]


def _latency() -> tuple[str, list[object]]:
    return "Latency", [
        lines(
            "TTFT",
            "s",
            "Time to first token, in the engine's front",
            quantiles("ray_rayserve_par_ttft_seconds"),
            span=12,
        ),
        lines(
            "TPOT",
            "s",
            "Mean time per output token after the first, by request",
            quantiles("ray_rayserve_par_tpot_seconds"),
            span=12,
        ),
    ]


def _cost() -> tuple[str, list[object]]:
    gpus = total(f"ray_rayserve_par_instance_gpus{OURS}")
    return "Cost", [
        lines(
            "GPUs held and wanted",
            "short",
            "Held: GPU-seconds per second, starts included once they are over",
            [
                Query(total(rate("ray_rayserve_par_gpu_seconds_total", OURS)), "{{model}} held"),
                Query(controlled("gpus_wanted"), f"{_BY_APPLICATION} wanted"),
            ],
        ),
        lines(
            "Cost per hour at list price",
            "currencyUSD",
            "Where the hardware catalogue has a price of the GPU",
            [Query(list_price_per_hour(), "{{model}}")],
        ),
        lines(
            "Cost per million output tokens",
            "currencyUSD",
            "At list price, and at your price (a variable above)",
            [
                Query(price_per_million_tokens(list_price_per_hour()), "{{model}} list price"),
                Query(price_per_million_tokens(f"{gpus} * $gpu_price"), "{{model}} your price"),
            ],
        ),
    ]


def _engines() -> tuple[str, list[object]]:
    return "Engines", [
        lines(
            "KV cache usage",
            "percentunit",
            "Share of the KV cache's blocks in use, by instance (and DP rank)",
            [
                Query(
                    f"max by (model_name, ReplicaId, engine) (ray_vllm_kv_cache_usage_perc{VLLM})",
                    f"{_BY_ENGINE} {{{{engine}}}}",
                )
            ],
        ),
        lines(
            "Prompt tokens",
            "tokens/s",
            "Tokens per second of prompts, by instance",
            [_tokens("ray_vllm_prompt_tokens_total")],
        ),
        lines(
            "Generated tokens",
            "tokens/s",
            "Tokens per second of answers, by instance",
            [_tokens("ray_vllm_generation_tokens_total")],
        ),
    ]


def _nodes() -> tuple[str, list[object]]:
    return "Nodes", [
        lines(
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
        ),
        lines(
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
        ),
        lines(
            "Nodes that answer",
            "short",
            "1 where the latest scrape succeeded",
            [Query("min by (instance) (up)", "{{instance}}")],
        ),
    ]


def _tokens(metric: str) -> Query:
    return Query(f"sum by (model_name, ReplicaId) ({rate(metric, VLLM)})", _BY_ENGINE)
