"""What was predicted beside what came: the controller's model, and the plan's."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as build

from grafana.panels import Query, dashboard, lines, row
from grafana.queries import OURS, controlled, mean, outcome_rate, quantile

_TTFT = "ray_rayserve_par_ttft_seconds"
_TPOT = "ray_rayserve_par_tpot_seconds"


def planner_accuracy() -> build.Dashboard:
    """The dashboard."""
    made = dashboard("rayserve-par planner accuracy", "rayserve-par-planner-accuracy")
    for part in (_controller(), _plan(), _load()):
        made = made.with_row(row(part[0]))
        for panel in part[1]:
            made = made.with_panel(panel)
    return made


def _by_model(name: str) -> str:
    return f"max by (model) (ray_rayserve_par_{name}{OURS})"


def _controller() -> tuple[str, list[object]]:
    return "The controller's model, corrected by what engines did", [
        lines(
            "TTFT",
            "s",
            "Predicted at the target's percentile (p99 unless set) for the present instances; the "
            "mean is of requests that ended since the last decision",
            [
                Query(controlled("control_predicted_ttft_seconds"), "{{application}} predicted"),
                Query(quantile(_TTFT, 0.99), "{{model}} measured p99"),
                Query(controlled("control_measured_ttft_seconds"), "{{application}} mean"),
                Query(controlled("control_target_ttft_seconds"), "{{application}} target"),
            ],
        ),
        lines(
            "TPOT",
            "s",
            "Predicted mean beside the measured ones",
            [
                Query(controlled("control_predicted_tpot_seconds"), "{{application}} predicted"),
                Query(mean(_TPOT), "{{model}} measured mean"),
                Query(controlled("control_measured_tpot_seconds"), "{{application}} as reported"),
                Query(controlled("control_target_tpot_seconds"), "{{application}} target"),
            ],
        ),
        lines(
            "Measured over predicted",
            "short",
            "1 is a perfect prediction; TTFT at p99, TPOT in the mean",
            [
                Query(
                    f"{quantile(_TTFT, 0.99)} / {_by_model('control_predicted_ttft_seconds')}",
                    "{{model}} TTFT",
                ),
                Query(
                    f"({mean(_TPOT)}) / {_by_model('control_predicted_tpot_seconds')}",
                    "{{model}} TPOT",
                ),
            ],
        ),
        lines(
            "Step-time correction",
            "short",
            "By how much steps take longer than planned, as learned; bounded to 0.5 to 2",
            [Query(controlled("control_step_correction"), "{{application}}")],
        ),
        lines(
            "Start of an instance",
            "s",
            "As decisions count on it, and the slowest of those that run",
            [
                Query(controlled("control_start_seconds"), "{{application}} counted on"),
                Query(_by_model("engine_start_seconds"), "{{model}} slowest engine"),
            ],
        ),
        lines(
            "Time of a decision",
            "s",
            "In Serve's controller",
            [Query(controlled("control_decision_seconds"), "{{application}}")],
        ),
    ]


def _plan() -> tuple[str, list[object]]:
    return "The plan, at the load that was planned for", [
        lines(
            "TTFT",
            "s",
            "A plan is of a full instance; below its load the measured one is lower",
            [
                Query(_by_model("plan_ttft_seconds"), "{{model}} planned"),
                Query(mean(_TTFT), "{{model}} measured mean"),
            ],
        ),
        lines(
            "TPOT",
            "s",
            "A plan is of a full instance; below its load the measured one is lower",
            [
                Query(_by_model("plan_tpot_seconds"), "{{model}} planned"),
                Query(mean(_TPOT), "{{model}} measured mean"),
            ],
        ),
        lines(
            "Requests of one instance",
            "reqps",
            "Planned for a full one, and the mean of those that run",
            [
                Query(_by_model("plan_requests_per_second"), "{{model}} planned"),
                Query(
                    f"{outcome_rate('ray_rayserve_par_slo_requests_total', '$__rate_interval')}"
                    f" / count by (model) (ray_rayserve_par_plan_info{OURS})",
                    "{{model}} measured",
                ),
            ],
        ),
    ]


def _load() -> tuple[str, list[object]]:
    return "What came, as the controller sees it", [
        lines(
            "Arrivals",
            "reqps",
            "Requests per second",
            [Query(controlled("control_load_requests_per_second"), "{{application}}")],
        ),
        lines(
            "Lengths",
            "short",
            "Mean tokens in and out; far from the planned ones another layout may be better",
            [
                Query(controlled("control_load_isl_tokens"), "{{application}} in"),
                Query(controlled("control_load_osl_tokens"), "{{application}} out"),
            ],
        ),
        lines(
            "Instances planned and there",
            "short",
            "With autoscaling the controller's number counts, not the plan's",
            [
                Query(_by_model("plan_instances"), "{{model}} planned"),
                Query(f"count by (model) (ray_rayserve_par_plan_info{OURS})", "{{model}} there"),
            ],
        ),
    ]
