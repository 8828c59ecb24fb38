"""The metrics that the controller exports for each application that it scales.

They come from Serve's controller process, which is where the scaling policy runs. All carry
`application` (Serve's name of it) and `model`.
"""

from __future__ import annotations

from rayserve_par.serving.metric_registry.metric import Kind, Metric, by_name

CONTROLLER_LABELS = ("application", "model")


def _metric(
    name: str, kind: Kind, unit: str, text: str, bad: str = "", act: str = "", *labels: str
) -> Metric:
    return Metric(f"rayserve_par_{name}", kind, unit, text, (*CONTROLLER_LABELS, *labels), bad, act)


_ITSELF = (
    _metric(
        "control_info", Kind.GAUGE, "1",
        "1; the layout and the mode are in the labels: `acting`, `dry_run` (decisions are only "
        "written down), `paused`, `overridden` (an operator set the number).",
        "not `acting`, and nobody remembers why",
        "`rayserve-par control show APP` has the note; `rayserve-par control resume APP`.",
        "layout", "mode",
    ),
    _metric(
        "control_look_timestamp_seconds", Kind.GAUGE, "Unix seconds",
        "When the controller looked last.",
        "more than a minute ago, or missing",
        "The number of instances stays as it is. Look at Serve's controller: `serve status`, and "
        "its log in the head's session folder.",
    ),
    _metric(
        "control_problems", Kind.GAUGE, "problems",
        "What the controller has to complain about: stale reports, a policy that failed, a target "
        "out of reach.",
        "above 0 for minutes",
        "`rayserve-par status` and `rayserve-par top` print them.",
    ),
    _metric(
        "control_oldest_report_seconds", Kind.GAUGE, "seconds",
        "Age of the oldest report among the instances'.",
        "above half a minute",
        "That instance's replica does not report; its log says why. Nothing is scaled down on "
        "what is not known.",
    ),
    _metric(
        "control_decision_seconds", Kind.GAUGE, "seconds",
        "What the latest decision took of Serve's controller.",
        "above 0.1",
        "Serve's controller has other work to do: raise `look_seconds`.",
    ),
    _metric(
        "decisions_total", Kind.COUNTER, "looks",
        "Looks at the application, by the reason that the decision gave "
        "(docs/autoscaling.md has them).",
        "`no_room` or `at_max`",
        "More is needed than the free GPUs or the settings allow: add nodes, or raise "
        "`max_replicas`.",
        "reason",
    ),
    _metric(
        "instance_changes_total", Kind.COUNTER, "changes",
        "Changes of the wanted number, `up` or `down`.",
        "ups and downs in turn under even load",
        "Raise `settle_seconds` or `margin`; `rayserve-par events` has every reason.",
        "direction",
    ),
)  # fmt: skip

_INSTANCES = (
    _metric(
        "instances", Kind.GAUGE, "instances",
        "Instances by state: `ready`, `starting`, `draining`.",
        "`starting` for much longer than a start takes",
        "`rayserve-par status` says what is missing, or the replica's log why it fails.",
        "state",
    ),
    _metric(
        "instances_wanted", Kind.GAUGE, "instances",
        "What Serve was told to run.",
        "above `ready` for longer than a start",
        "As for `instances`.",
    ),
    _metric(
        "instances_decided", Kind.GAUGE, "instances",
        "What the policy found; differs from wanted unless the mode is `acting`.",
        "above wanted in a mode that does not act",
        "The operator's number is too low for the load: `rayserve-par control resume APP`.",
    ),
    _metric(
        "instances_least", Kind.GAUGE, "instances", "The least that the settings allow."
    ),
    _metric(
        "instances_most", Kind.GAUGE, "instances",
        "The most that the settings allow.",
        "wanted stays at it", "Raise `max_replicas` or the GPU budget.",
    ),
    _metric(
        "instances_room", Kind.GAUGE, "instances",
        "Instances that the free GPUs could hold in addition; missing where it is not known.",
        "0 while decided is above ready", "Add nodes, or lower what else runs.",
    ),
    _metric(
        "gpus_wanted", Kind.GAUGE, "GPUs", "Wanted instances times the GPUs of each."
    ),
    _metric(
        "control_start_seconds", Kind.GAUGE, "seconds",
        "How long a start takes, as decisions count on it.",
        "minutes more than it was",
        "Rises in load are followed later the longer it is; see `engine_start_seconds`.",
    ),
)  # fmt: skip

_LOAD = (
    _metric(
        "control_load_requests_per_second", Kind.GAUGE, "requests per second",
        "Arrivals as the controller sees them."
    ),
    _metric(
        "control_load_isl_tokens", Kind.GAUGE, "tokens", "Mean input length of what arrives.",
        "far from the planned `workload.isl`",
        "Another layout may be better: `rayserve-par whatif`.",
    ),
    _metric(
        "control_load_osl_tokens", Kind.GAUGE, "tokens", "Mean output length of what ended.",
        "far from the planned `workload.osl`",
        "Another layout may be better: `rayserve-par whatif`.",
    ),
    _metric(
        "control_target_ttft_seconds", Kind.GAUGE, "seconds", "The TTFT target of decisions."
    ),
    _metric(
        "control_target_tpot_seconds", Kind.GAUGE, "seconds", "The TPOT target of decisions."
    ),
    _metric(
        "control_measured_ttft_seconds", Kind.GAUGE, "seconds",
        "Mean TTFT of requests that ended since the decision before; missing where none did.",
        "above the target", "As for `slo_requests_total`.",
    ),
    _metric(
        "control_measured_tpot_seconds", Kind.GAUGE, "seconds",
        "Mean TPOT of requests that ended since the decision before; missing where none did.",
        "above the target", "As for `slo_requests_total`.",
    ),
    _metric(
        "control_predicted_ttft_seconds", Kind.GAUGE, "seconds",
        "TTFT at the target's percentile that the corrected model predicts for the present number "
        "of instances; missing where it predicts none.",
        "above the target", "More instances are on their way, or a limit holds them back.",
    ),
    _metric(
        "control_predicted_tpot_seconds", Kind.GAUGE, "seconds",
        "Mean TPOT that the corrected model predicts for the present number of instances; missing "
        "where it predicts none.",
        "far from the measured one",
        "The model is wrong about this engine: `rayserve-par calibrate`.",
    ),
    _metric(
        "control_step_correction", Kind.GAUGE, "ratio",
        "By how much engine steps take longer than planned, as learned; from 0.5 to 2.",
        "below 0.67 or above 1.5",
        "Something slows the engines (clocks, neighbours, a wrong GPU label), or the planner does "
        "not know this GPU: `rayserve-par calibrate`.",
    ),
)  # fmt: skip

CONTROLLER_METRICS = by_name((*_ITSELF, *_INSTANCES, *_LOAD))
