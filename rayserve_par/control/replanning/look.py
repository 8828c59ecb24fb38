"""One look at one application: what Serve, Ray and the store say, as the state of a decision.

The load is what the scaling policy wrote down at its last look (ISL, OSL and rate, rounded to 10%,
so that chance changes nothing), else, where that is stale or no requests come, what the
configuration states.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp, log

from rayserve_par.control.decide.prospect import Choice, CountBy, Counting
from rayserve_par.control.decide.replan_state import ReplanState
from rayserve_par.control.decide.trial import Figures
from rayserve_par.control.live.records import ControlStatus
from rayserve_par.control.observe import InstanceView
from rayserve_par.control.replanning.candidates import (
    Room,
    candidates,
    planned_as,
    prospects,
    with_workload,
)
from rayserve_par.control.replanning.record import ReplanRecord
from rayserve_par.control.serve_client import AppState
from rayserve_par.hardware.cluster import Cluster
from rayserve_par.planning.plan import Plan
from rayserve_par.planning.request import Target, Workload
from rayserve_par.serving.config import AppArgs, ReplannedArgs, WorkloadArgs

_USUAL_START_SECONDS = 60.0
_ROUNDING = 0.1


@dataclass(frozen=True, slots=True)
class Seen:
    """Everything that was read at one moment, for all applications.

    `room` and `asked`, the number of instances that its user asked for after the deployment, are
    of one application.
    """

    now_seconds: float
    cluster: Cluster
    room: Room
    instances: tuple[InstanceView, ...]
    statuses: tuple[ControlStatus, ...]
    asked: int | None = None

    def status_of(self, app: str) -> ControlStatus | None:
        """The scaling policy's word on the application, unless it is stale."""
        found = (one for one in self.statuses if one.app == app)
        return next((one for one in found if not one.stale(self.now_seconds)), None)


def state_of(seen: Seen, app: AppState, args: AppArgs, record: ReplanRecord) -> ReplanState | None:
    """The state of one application; None while nothing is known of its layout yet.

    `seen.room` and `seen.asked` must be those of this application.
    """
    status = seen.status_of(app.name)
    living = [view for view in seen.instances if view.record.app == app.name]
    workload = _workload(args, status)
    loaded = with_workload(args, workload)
    found = candidates(loaded, seen.cluster)
    deployed = _deployed(args, living, record.known, found.plans)
    if deployed is None:
        return None
    now = planned_as(loaded, seen.cluster, deployed)
    if not now.plans:  # perhaps only for the requests that are seen
        now = planned_as(args, seen.cluster, deployed)
    listed = list(found.plans)
    former = record.memory.trial.former if record.memory.trial else None
    if former is not None:
        listed += planned_as(loaded, seen.cluster, _args_of(former)).plans
    ready = sum(_is(view, deployed) for view in living)
    present = seen.room.prospect(now.plans[0]) if now.plans else None
    if present is not None:
        # What runs fits, whatever Ray's free resources say at this moment.
        present = replace(present, room=max(present.room, ready))
    limits = now.plans[0].workload if now.plans else Workload()
    missing = now.refusal or (seen.room.missing(now.plans[0]) if now.plans else "")
    if found.refusal:
        missing = f"{missing} No other layout fits either: {found.refusal}".strip()
    starts = [view.record.start_seconds for view in living]
    return ReplanState(
        now_seconds=seen.now_seconds,
        cluster=seen.cluster.label,
        explicit=args.layout != "auto",
        present=present,
        target=app.target_replicas,
        ready=ready,
        others=len(living) - ready,
        failed=app.status == "DEPLOY_FAILED" and ready < app.target_replicas,
        candidates=prospects(seen.room, listed),
        missing=missing,
        counting=counting_of(args, seen.asked),
        rate=workload.rate,
        isl=limits.isl,
        osl=limits.osl,
        by_latency=args.target is Target.LATENCY,
        ttft_limit_seconds=limits.ttft_limit,
        tpot_limit_seconds=limits.tpot_limit,
        start_seconds=max(starts) if starts else _start_of(status),
        measured=_figures(status),
    )


def counting_of(args: AppArgs, asked: int | None) -> Counting:
    """How the configuration counts instances; `asked` is a number that came later."""
    if args.autoscaling is not None:
        scaled = args.autoscaling
        return Counting(CountBy.POLICY, least=scaled.min_replicas, most=scaled.max_replicas)
    if asked is not None:
        return Counting(CountBy.FIXED, number=asked)
    if args.num_replicas == "fit":
        return Counting(CountBy.FIT)
    if args.num_replicas is None and args.workload is not None and args.workload.rate:
        return Counting(CountBy.RATE)
    return Counting(CountBy.FIXED, number=args.num_replicas or 1)


def _deployed(
    args: AppArgs, living: Sequence[InstanceView], known: Choice | None, planned: Sequence[Plan]
) -> ReplannedArgs | None:
    """The layout that Serve was last told, or that of the most instances, or the last known.

    Instances that the planner laid out by itself are where it would lay them out now, if so at all.
    """
    if args.layout != "auto":
        return ReplannedArgs(**args.layout.model_dump())
    if args.replanned is not None:
        return args.replanned
    layouts = Counter(view.layout for view in living)
    if not layouts:
        return None if known is None else _args_of(known)
    [(layout, _)] = layouts.most_common(1)
    nodes = next((one.node_group.shape for one in planned if one.layout == layout), None)
    if known is not None and known.layout == layout:
        nodes = known.node_group
    return ReplannedArgs(tp=layout.tp, pp=layout.pp, dp=layout.dp, ep=layout.ep, nodes=nodes)


def _args_of(choice: Choice) -> ReplannedArgs:
    layout = choice.layout
    return ReplannedArgs(
        tp=layout.tp,
        pp=layout.pp,
        dp=layout.dp,
        ep=layout.ep,
        across="nodes" if choice.across_nodes else "auto",
        nodes=choice.node_group,
    )


def _is(view: InstanceView, deployed: ReplannedArgs) -> bool:
    return view.layout == deployed.request().layout


def _workload(args: AppArgs, status: ControlStatus | None) -> WorkloadArgs:
    stated = args.workload or WorkloadArgs()
    if status is None or not (status.isl >= 1 and status.osl >= 1):
        return stated
    rate = _rounded(status.requests_per_second) if args.autoscaling else stated.rate
    return stated.model_copy(
        update={
            "isl": max(1, round(_rounded(status.isl))),
            "osl": max(1, round(_rounded(status.osl))),
            "rate": rate or stated.rate,
        }
    )


def _rounded(value: float) -> float:
    return exp(round(log(value) / _ROUNDING) * _ROUNDING) if value > 0 else 0.0


def _start_of(status: ControlStatus | None) -> float:
    return status.start_seconds if status and status.start_seconds > 0 else _USUAL_START_SECONDS


def _figures(status: ControlStatus | None) -> Figures | None:
    if status is None:
        return None
    return Figures(status.requests_per_second, status.ttft_seconds, status.tpot_seconds)
