"""The metrics that each instance exports from its replica.

All carry `model`, `instance_id` (Serve's replica id) and `node` (Ray's node id: the replica's, but
for `stage_gpus`, where it is the stage's).
"""

from __future__ import annotations

from rayserve_par.serving.metric_registry.metric import Kind, Metric, by_name

INSTANCE_LABELS = ("model", "instance_id", "node")
_TTFT_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_TPOT_SECONDS = (0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0)


def _metric(
    name: str, kind: Kind, unit: str, text: str, bad: str = "", act: str = "", *labels: str,
    boundaries: tuple[float, ...] = (),
) -> Metric:  # fmt: skip
    return Metric(
        f"rayserve_par_{name}", kind, unit, text, (*INSTANCE_LABELS, *labels), bad, act, boundaries
    )


_PLAN = (
    _metric(
        "plan_info", Kind.GAUGE, "1",
        "1 while the instance lives; the plan is in the labels. `auto_layout` is what the planner "
        "would take by itself.",
        "`layout` differs from `auto_layout` and nobody asked for it",
        "Look at `layout:` in the config; `rayserve-par plan` gives the reasons for both.",
        "layout", "auto_layout", "target",
    ),
    _metric(
        "plan_instances", Kind.GAUGE, "instances",
        "Instances that the plan counted at the deployment; with autoscaling the controller's "
        "`instances_wanted` counts instead.",
    ),
    _metric(
        "plan_ttft_seconds", Kind.GAUGE, "seconds",
        "TTFT that the planner predicts for one instance at the load it was planned for.",
    ),
    _metric(
        "plan_tpot_seconds", Kind.GAUGE, "seconds",
        "TPOT that the planner predicts for one instance at the load it was planned for.",
    ),
    _metric(
        "plan_requests_per_second", Kind.GAUGE, "requests per second",
        "Rate that the planner predicts for one instance at the load it was planned for.",
        "the measured rate of an instance stays near it while TTFT or TPOT is above its limit",
        "The plan is optimistic: see the planner accuracy dashboard; add instances.",
    ),
)  # fmt: skip

_PLACE = (
    _metric(
        "instance_gpus", Kind.GAUGE, "GPUs", "GPUs that the instance holds."
    ),
    _metric(
        "stage_gpus", Kind.GAUGE, "GPUs",
        "GPUs that one PP stage of one DP rank holds on the node in the label, from where the "
        "engine's workers really are.",
        "a stage on more than one node, where nodes do not share an NVLink domain",
        "`rayserve-par status` draws it; delete the instance's replica, and report it: the check "
        "of the placement should have refused the instance.",
        "dp_rank", "stage",
    ),
    _metric(
        "placement_verified", Kind.GAUGE, "0 or 1",
        "1 when Ray's tables agree with the plan. At 0 the replica leaves half a minute later, and "
        "Serve starts it anew.",
        "0",
        "The replica's log has both pictures. Look for nodes whose labels or GPU counts changed.",
    ),
    _metric(
        "engine_start_seconds", Kind.GAUGE, "seconds",
        "From the replica's start to the first token.",
        "minutes more than its siblings",
        "A slow disk or a download: keep models on the nodes (`RAYSERVE_PAR_CACHE_DIR`) or on a "
        "shared volume.",
    ),
    _metric(
        "gpu_seconds_total", Kind.COUNTER, "GPU-seconds",
        "GPUs of the instance times the time since its engine began to start, that start "
        "included. Its rate is the number of GPUs held.",
    ),
    _metric(
        "gpu_price_usd_per_hour", Kind.GAUGE, "US dollars per GPU-hour",
        "List price of one GPU of the instance's node group, from the hardware catalogue or the "
        "user's own; missing where none is known.",
    ),
)  # fmt: skip

_REQUESTS = (
    _metric(
        "requests_total", Kind.COUNTER, "requests",
        "Requests that the engine finished, by reason.",
        "reason `error`", "The replica's log has the engine's error.", "reason",
    ),
    _metric(
        "slo_ttft_seconds", Kind.GAUGE, "seconds",
        "The TTFT limit that requests are held to (`workload.ttft_ms`, else 2 s).",
    ),
    _metric(
        "slo_tpot_seconds", Kind.GAUGE, "seconds",
        "The TPOT limit that requests are held to (`workload.tpot_ms`, else 50 ms).",
    ),
    _metric(
        "slo_requests_total", Kind.COUNTER, "requests",
        "Finished requests by outcome: `met` both limits; `ttft`, `tpot` or `both` missed; "
        "`error`. Requests that their client gave up are not counted.",
        "the share of `met` falls below the objective (99% in the rules)",
        "Mostly `ttft`: queues; add instances, or look why the controller does not. Mostly `tpot`: "
        "batches too large; lower `max_num_batched_tokens` or `max_num_seqs`.",
        "outcome",
    ),
    _metric(
        "slo_output_tokens_total", Kind.COUNTER, "tokens",
        "Output tokens of finished requests, by the same outcomes. The rate of `met` is the "
        "goodput.",
        "goodput falls while all tokens do not",
        "As for `slo_requests_total`.",
        "outcome",
    ),
    _metric(
        "admission_total", Kind.COUNTER, "requests",
        "Requests that reached the replica, by outcome: `ok`, or the code of the refusal "
        "(docs/admission.md).",
        "`overloaded`, `timeout` or `failed` above a few per mille",
        "`overloaded`: more instances. `timeout`: the request's own deadline. `failed`: the "
        "replica's log.",
        "outcome",
    ),
    _metric(
        "in_flight", Kind.GAUGE, "requests",
        "Requests that admission has let through to the engine."
    ),
    _metric(
        "concurrency_limit", Kind.GAUGE, "requests",
        "Requests that admission would let through at once.",
        "`in_flight` stays at it",
        "The instance is full and answers 503 to the rest: more instances.",
    ),
    _metric(
        "ttft_seconds", Kind.HISTOGRAM, "seconds",
        "Time to first token, in the engine's front.",
        "p99 above the limit", "As for `slo_requests_total`.",
        boundaries=_TTFT_SECONDS,
    ),
    _metric(
        "tpot_seconds", Kind.HISTOGRAM, "seconds",
        "Mean time per output token after the first, by request.",
        "p99 above the limit", "As for `slo_requests_total`.",
        boundaries=_TPOT_SECONDS,
    ),
)  # fmt: skip

INSTANCE_METRICS = by_name((*_PLAN, *_PLACE, *_REQUESTS))
