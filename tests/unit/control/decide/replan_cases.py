"""Prospects and states that the tests of re-planning share."""

from __future__ import annotations

from typing import Any

from rayserve_par.control.decide.prospect import CountBy, Counting, Prospect
from rayserve_par.control.decide.replan_state import ReplanState
from rayserve_par.planning.layout import Layout


def prospect(layout: Layout, **changes: Any) -> Prospect:
    """One that serves 5 requests/s and GPU, has room for 4 and fits beside what runs."""
    usual: dict[str, Any] = {
        "layout": layout,
        "node_group": "8xH100",
        "across_nodes": False,
        "gpus_taken": float(layout.gpus),
        "room": 4,
        "beside": 2,
        "in_place": True,
        "requests_per_second": 5.0 * layout.gpus,
        "ttft_seconds": 0.5,
        "tpot_seconds": 0.04,
        "excess": 0.8,
    }
    return Prospect(**{**usual, **changes})


TP1 = prospect(Layout(tp=1))
TP2 = prospect(Layout(tp=2))
TP4 = prospect(Layout(tp=4))


def state(present: Prospect | None, *candidates: Prospect, **changes: Any) -> ReplanState:
    """Two instances of `present` serve, as its user asked for."""
    usual: dict[str, Any] = {
        "now_seconds": 1000.0,
        "cluster": "2x8xH100",
        "explicit": False,
        "present": present,
        "target": 2,
        "ready": 2,
        "others": 0,
        "failed": False,
        "candidates": candidates,
        "missing": "2 nodes per instance, 1 node",
        "counting": Counting(CountBy.FIXED, number=2),
        "rate": None,
        "isl": 1024.0,
        "osl": 256.0,
        "by_latency": False,
        "ttft_limit_seconds": 2.0,
        "tpot_limit_seconds": 0.05,
        "start_seconds": 60.0,
    }
    return ReplanState(**{**usual, **changes})
