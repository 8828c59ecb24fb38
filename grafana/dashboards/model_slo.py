"""One model against its limits: attainment, error budget, burn rate, goodput, and what is full."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as build

from grafana.panels import Query, dashboard, lines, number, row
from grafana.queries import (
    OURS,
    VLLM,
    bad_share,
    controlled,
    met_rate,
    outcome_rate,
    quantiles,
    rate,
    total,
)

_BURN_WINDOWS = ("5m", "1h", "6h")
_TOKENS = "ray_rayserve_par_slo_output_tokens_total"


def model_slo() -> build.Dashboard:
    """The dashboard."""
    made = dashboard(
        "rayserve-par SLO of one model", "rayserve-par-model-slo", several_models=False
    ).with_variable(
        build.TextBoxVariable("objective")
        .label("objective")
        .default_value("0.99")
        .description("Share of requests that shall keep their limits; the rules have 0.99")
    )
    for part in (_attainment(), _latency(), _load(), _engines()):
        made = made.with_row(row(part[0]))
        for panel in part[1]:
            made = made.with_panel(panel)
    return made


def _attainment() -> tuple[str, list[object]]:
    return "Attainment", [
        number(
            "Attainment",
            "Share of requests within both limits, over the dashboard's time. Refused for lack of "
            "room, failed and timed out count as missed",
            Query(f"1 - ({bad_share('$__range')})", "{{model}}"),
            unit="percentunit",
        ),
        number(
            "Error budget left",
            "Of the misses that the objective allows, over the dashboard's time; below 0 it is "
            "overdrawn",
            Query(f"1 - ({bad_share('$__range')}) / (1 - $objective)", "{{model}}"),
            unit="percentunit",
        ),
        lines(
            "Burn rate",
            "short",
            "Misses over misses allowed: at 1 the budget lasts exactly as long as its window. The "
            "alerts fire at 14.4 (5 min and 1 h) and 6 (30 min and 6 h)",
            [
                Query(f"({bad_share(window)}) / (1 - $objective)", window)
                for window in _BURN_WINDOWS
            ],
        ),
        lines(
            "Finished requests by outcome",
            "reqps",
            "met: both limits kept; ttft, tpot, both: missed",
            [
                Query(
                    f"sum by (outcome) ({rate('ray_rayserve_par_slo_requests_total', OURS)})",
                    "{{outcome}}",
                )
            ],
        ),
    ]


def _latency() -> tuple[str, list[object]]:
    return "Latency against the limits", [
        lines(
            "TTFT",
            "s",
            "Time to first token, in the engine's front",
            [
                *quantiles("ray_rayserve_par_ttft_seconds"),
                Query(f"max by (model) (ray_rayserve_par_slo_ttft_seconds{OURS})", "limit"),
            ],
        ),
        lines(
            "TPOT",
            "s",
            "Mean time per output token after the first, by request",
            [
                *quantiles("ray_rayserve_par_tpot_seconds"),
                Query(f"max by (model) (ray_rayserve_par_slo_tpot_seconds{OURS})", "limit"),
            ],
        ),
        lines(
            "Time in the engine's queue",
            "s",
            "Before a request's first step",
            [
                Query(
                    f"histogram_quantile({share}, sum by (le)"
                    f" ({rate('ray_vllm_request_queue_time_seconds_bucket', VLLM)}))",
                    name,
                )
                for share, name in ((0.5, "p50"), (0.99, "p99"))
            ],
        ),
    ]


def _load() -> tuple[str, list[object]]:
    return "Load and goodput", [
        lines(
            "Goodput",
            "tokens/s",
            "Output tokens of requests within both limits, and of all",
            [
                Query(met_rate(_TOKENS, "$__rate_interval"), "within the limits"),
                Query(outcome_rate(_TOKENS, "$__rate_interval"), "all"),
            ],
        ),
        lines(
            "Requests that reached a replica",
            "reqps",
            "By what became of them: ok, or the code of the refusal",
            [
                Query(
                    f"sum by (outcome) ({rate('ray_rayserve_par_admission_total', OURS)})",
                    "{{outcome}}",
                )
            ],
        ),
        lines(
            "Instances",
            "short",
            "Those that report, and those that the controller wants",
            [
                Query(f"count by (model) (ray_rayserve_par_plan_info{OURS})", "there"),
                Query(controlled("instances_wanted"), "{{application}} wanted"),
            ],
        ),
    ]


def _engines() -> tuple[str, list[object]]:
    hits = f"sum by (model_name) ({rate('ray_vllm_prefix_cache_hits_total', VLLM)})"
    queries = f"sum by (model_name) ({rate('ray_vllm_prefix_cache_queries_total', VLLM)})"
    return "Engines", [
        lines(
            "Waiting requests by instance",
            "short",
            "Without room in the batch yet",
            [Query(f"sum by (ReplicaId) (ray_vllm_num_requests_waiting{VLLM})", "{{ReplicaId}}")],
            span=6,
        ),
        lines(
            "KV cache usage by instance",
            "percentunit",
            "The fullest DP rank of each instance",
            [Query(f"max by (ReplicaId) (ray_vllm_kv_cache_usage_perc{VLLM})", "{{ReplicaId}}")],
            span=6,
        ),
        lines(
            "Preemptions",
            "ops",
            "Requests that had to start anew for lack of KV memory",
            [
                Query(
                    f"sum by (ReplicaId) ({rate('ray_vllm_num_preemptions_total', VLLM)})"
                    f" or sum by (ReplicaId) (ray_vllm_num_requests_running{VLLM}) * 0",
                    "{{ReplicaId}}",
                )
            ],
            span=6,
        ),
        lines(
            "Prefix cache hits and concurrency",
            "percentunit",
            "Prompt tokens found in the cache, of those looked up; requests let through, of the "
            "limit",
            [
                Query(f"({hits} or {queries} * 0) / {queries}", "prefix hits"),
                Query(
                    f"{total(f'ray_rayserve_par_in_flight{OURS}')}"
                    f" / {total(f'ray_rayserve_par_concurrency_limit{OURS}')}",
                    "let through",
                ),
            ],
            span=6,
        ),
    ]
