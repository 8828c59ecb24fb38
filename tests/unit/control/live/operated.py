"""Applications, controllers and events made of a few numbers, for what operators see."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rayserve_par.control.decide.change_way import Way
from rayserve_par.control.decide.decision import Decision, Option, Reason
from rayserve_par.control.decide.events import CameTrue, Event, Inputs
from rayserve_par.control.decide.replan_events import ReplanCameTrue, ReplanEvent
from rayserve_par.control.decide.replan_state import Action, ReplanDecision, Why
from rayserve_par.control.live.overview import AppControl
from rayserve_par.control.live.records import (
    NO_OVERRIDE,
    ControlStatus,
    InstanceStatus,
    Mode,
    Override,
)
from rayserve_par.control.live.told import in_order, told_events
from rayserve_par.control.observe import InstanceView, Observation
from rayserve_par.control.serve_client import AppState
from rayserve_par.placement.fit import NodeState
from rayserve_par.planning.layout import Layout
from rayserve_par.serving.rank_table import InstanceRecord, RankRecord
from tests.unit.control.decide.replan_cases import TP1, TP2

# 2026-11-23 12:00:00 UTC
NOON = 1795435200.0


def app_state(
    name: str = "chat", status: str = "RUNNING", replicas: int = 2, **more: Any
) -> AppState:
    rows = tuple({"replica_id": f"{name}-{n}", "state": "RUNNING"} for n in range(replicas))
    state = AppState(name, status, "", "/", rows, "", {})
    return replace(state, **more)


def instance(number: int, app: str = "chat", **more: Any) -> InstanceStatus:
    one = InstanceStatus(f"{app}-{number}", "ready", 4, 0, 0.25, 1.0)
    return replace(one, **more)


def control_status(app: str = "chat", **more: Any) -> ControlStatus:
    status = ControlStatus(
        app=app,
        model="llama",
        layout="tp2",
        gpus_per_instance=2,
        seconds=NOON - 1.0,
        mode=Mode.ACTING,
        wanted=3,
        decided=3,
        reason="forecast",
        ready=2,
        starting=1,
        draining=0,
        least=1,
        most=8,
        room=4,
        requests_per_second=2.314,
        isl=512.4,
        osl=128.0,
        ttft_target_seconds=2.0,
        tpot_target_seconds=0.05,
        ttft_seconds=0.412,
        tpot_seconds=0.0471,
        predicted_ttft_seconds=0.38,
        predicted_tpot_seconds=0.03,
        correction=1.08,
        start_seconds=41.0,
        decision_seconds=0.004,
        instances=(instance(0, app), instance(1, app, running=9, waiting=3, kv_use=0.63)),
    )
    return replace(status, **more)


OPTIONS = (
    Option(1, float("inf"), 0.09, 1.9, meets=False),
    Option(2, 3.1, 0.048, 0.97, meets=False),
    Option(3, 0.38, 0.03, 0.64, meets=True),
)
INPUTS = Inputs(2, 0, 0, 34, 2, 0, 2.314, 512.4, 128.0, 0.63, 41.0, 4)


def event(number: int = 14, *, seconds: float = NOON - 60.0, came_true: bool = False) -> Event:
    decision = Decision(3, Reason.FORECAST, NOON, OPTIONS, needed=3, note="a note")
    told = CameTrue(seconds + 42.0, 3, 2.4, 0.41, 0.031) if came_true else None
    return Event(number, seconds, "llama", "rayserve_par", 2, decision, INPUTS, told)


def log(*events: Event) -> dict[str, Any]:
    return {"counted": len(events), "events": [one.as_object() for one in events]}


BETTER = ReplanDecision(
    Action.CHANGE, Why.BETTER, "TP2 is better by 38%", TP2.choice(2), Way.SURGE,
    gain=0.38, cost_gpu_seconds=240.0, predicted=TP2,
)  # fmt: skip
BEST = ReplanDecision(Action.KEEP, Why.BEST, "TP1 is the planner's choice")


def replan_event(
    number: int = 3, *, app: str = "chat", came_true: bool = False, **more: Any
) -> ReplanEvent:
    made = ReplanEvent(
        number=number,
        seconds=NOON - 90.0,
        app=app,
        cluster="2x8xH100",
        before=TP1.choice(2),
        ready=2,
        requests_per_second=2.314,
        isl=512.4,
        osl=128.0,
        decision=BETTER,
        candidates=(TP2, TP1),
        carried_out=True,
    )
    made = replace(made, **more)
    told = ReplanCameTrue(made.seconds + 80.0, 2, 2.4, 0.41, 0.031) if came_true else None
    return replace(made, came_true=told)


def control(
    app: str = "chat",
    status: ControlStatus | None = None,
    override: Override = NO_OVERRIDE,
    events: tuple[Event, ...] = (),
    replans: tuple[ReplanEvent, ...] = (),
) -> AppControl:
    decisions = in_order((*told_events(app, log(*events)), *replans))
    return AppControl(app, status, override, decisions)


def observation(
    apps: tuple[AppState, ...], *, nodes: int = 2, gpus: int = 4, instances: int = 2, tp: int = 2
) -> Observation:
    """`instances` of the first application, TP groups filling the nodes one after another."""
    states = tuple(
        NodeState(f"node{n}", f"node-{n}", float(gpus), 0.0, 8.0, "") for n in range(nodes)
    )
    views = []
    for number in range(instances):
        name = apps[0].name
        record = InstanceRecord(
            f"group{number}", name, f"{name}-{number}", "actor", "llama", tp, 1, 1, 1, 5.0
        )
        places = [divmod(number * tp + rank, gpus) for rank in range(tp)]
        ranks = tuple(
            RankRecord(0, rank, 0, "actor", f"node{node}", gpu)
            for rank, (node, gpu) in enumerate(places)
        )
        views.append(InstanceView(record, Layout(tp=tp), ranks))
    return Observation(states, apps, tuple(views), {})
