"""The metrics that the re-planning controller exports from its replica.

All carry `application` (Serve's name of it) and `model`, as those of the scaling policy do. There
are none where no controller for re-planning is deployed.
"""

from __future__ import annotations

from rayserve_par.serving.metric_registry.controller import CONTROLLER_LABELS
from rayserve_par.serving.metric_registry.metric import Kind, Metric, by_name

REPLANNER_METRICS = by_name((
    Metric(
        "rayserve_par_replan_decisions_total", Kind.COUNTER, "decisions",
        "Decisions of the re-planner as its log has them: one that repeats the one before, or only "
        "waits, is not counted. `action` and `why` are those of docs/replanning.md; `outcome` is "
        "`carried_out`, `advised` (a dry run, a pause or an operator's number) or `nothing` (there "
        "was nothing to do).",
        (*CONTROLLER_LABELS, "action", "why", "outcome"),
        "`cannot` grows, or the same change comes again and again",
        "`rayserve-par events` has what each was decided from, and what is missing.",
    ),
    Metric(
        "rayserve_par_layout_changes_total", Kind.COUNTER, "changes",
        "Layouts that the re-planner changed: `change`, `fall_back` (the former fits no more) or "
        "`back_out` (the new one did not start, or was worse).",
        (*CONTROLLER_LABELS, "action"),
        "`back_out`, or several an hour on a cluster that does not change",
        "Raise `least_gain` or `least_interval_seconds`; calibrate where predictions are off "
        "(`rayserve-par calibrate`).",
    ),
))  # fmt: skip
