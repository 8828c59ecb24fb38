"""Where everything is: instances, stages and GPUs by node, starts and nodes."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as build

from grafana.panels import Query, dashboard, lines, number, row, table
from grafana.queries import NODE_OF_REPLICA, OURS, VLLM


def topology() -> build.Dashboard:
    """The dashboard."""
    made = dashboard("rayserve-par topology and placement", "rayserve-par-topology")
    for part in (_stages(), _instances(), _nodes()):
        made = made.with_row(row(part[0]))
        for panel in part[1]:
            made = made.with_panel(panel)
    return made


def _stages() -> tuple[str, list[object]]:
    group = "model, instance_id, dp_rank, stage"
    return "Stages", [
        table(
            "GPUs by stage and node",
            "Where the engine's workers really are; Value is GPUs. `node` is Ray's node id",
            f"max by ({group}, node) (ray_rayserve_par_stage_gpus{OURS})",
            span=14,
            height=9,
        ),
        number(
            "Nodes of the widest stage",
            "1 where every TP group is on one node; more only on nodes that share an NVLink domain",
            Query(
                f"max by (model) (count by ({group}) (ray_rayserve_par_stage_gpus{OURS}))",
                "{{model}}",
            ),
            span=5,
            height=9,
        ),
        number(
            "Placement by instance",
            "1: Ray's tables agree with the plan",
            Query(
                f"min by (model, instance_id) (ray_rayserve_par_placement_verified{OURS})",
                "{{model}} {{instance_id}}",
            ),
            span=5,
            height=9,
        ),
    ]


def _instances() -> tuple[str, list[object]]:
    return "Instances", [
        table(
            "Instances and their replicas' nodes",
            "With the plan of each",
            "max by (model, instance_id, node, layout, auto_layout, target)"
            f" (ray_rayserve_par_plan_info{OURS})",
            span=12,
            height=8,
        ),
        lines(
            "Engine start",
            "s",
            "From the replica's start to the first token",
            [
                Query(
                    f"max by (model, instance_id) (ray_rayserve_par_engine_start_seconds{OURS})",
                    "{{model}} {{instance_id}}",
                )
            ],
            span=6,
        ),
        lines(
            "Replicas of the last quarter of an hour",
            "short",
            "Those that lived at some moment of it, those that pass their health check, and those "
            "that Serve is to run. Many more of the first under even load: replicas end",
            [
                Query(
                    "count by (application)"
                    " (max_over_time(ray_serve_deployment_replica_starts_total[15m]))",
                    "{{application}} lived",
                ),
                Query(
                    "sum by (application) (ray_serve_deployment_replica_healthy)",
                    "{{application}} healthy",
                ),
                Query(
                    "max by (application) (ray_serve_autoscaling_target_replicas)",
                    "{{application}} to run",
                ),
            ],
            span=6,
        ),
    ]


def _nodes() -> tuple[str, list[object]]:
    return "Nodes", [
        lines(
            "Model GPUs by node",
            "short",
            "GPUs that stages hold",
            [
                Query(
                    f"sum by (model, node) (ray_rayserve_par_stage_gpus{OURS})",
                    "{{model}} {{node}}",
                )
            ],
        ),
        lines(
            "Instances by node",
            "short",
            "The node of each instance's replica",
            [
                Query(
                    f"count by (model, node) (ray_rayserve_par_plan_info{OURS})",
                    "{{model}} {{node}}",
                )
            ],
        ),
        lines(
            "Running requests by node",
            "short",
            "The node of each instance's replica",
            [
                Query(
                    "sum by (model_name, node)"
                    f" (ray_vllm_num_requests_running{VLLM} * {NODE_OF_REPLICA})",
                    "{{model_name}} {{node}}",
                )
            ],
        ),
        lines(
            "Free GPUs by node",
            "short",
            "By the node's metrics endpoint",
            [
                Query(
                    'sum by (instance) (ray_resources{Name="GPU",State="AVAILABLE"})',
                    "{{instance}}",
                )
            ],
        ),
        lines(
            "CPU by node",
            "percent",
            "Fronts and tokenizers share it",
            [Query("max by (instance) (ray_node_cpu_utilization)", "{{instance}}")],
        ),
        lines(
            "Placement groups",
            "short",
            "By state; PENDING ones have no room",
            [Query("sum by (State) (ray_placement_groups)", "{{State}}")],
        ),
    ]
