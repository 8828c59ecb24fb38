"""Which layout, how many instances, and why."""

from rayserve_par.planning.layout import Layout
from rayserve_par.planning.legality import RefusedLayout, illegal
from rayserve_par.planning.plan import Plan, plan
from rayserve_par.planning.plan_json import plan_from_json, plan_to_json
from rayserve_par.planning.request import LayoutRequest, Target, Workload

__all__ = [
    "Layout",
    "LayoutRequest",
    "Plan",
    "RefusedLayout",
    "Target",
    "Workload",
    "illegal",
    "plan",
    "plan_from_json",
    "plan_to_json",
]
