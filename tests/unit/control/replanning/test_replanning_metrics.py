"""What one look of the re-planner adds to counters."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("ray", reason="metrics leave through Ray")

from rayserve_par.control.decide.replan_events import ReplanEvent
from rayserve_par.control.decide.replan_state import Action, ReplanDecision
from rayserve_par.control.live.metrics import Row
from rayserve_par.control.live.records import Mode
from rayserve_par.control.replanning.metrics import ReplanMetrics, counts
from rayserve_par.control.replanning.replanner import Outcome
from rayserve_par.serving.metric_registry import CONTROLLER_LABELS, REPLANNER_METRICS
from tests.unit.control.live.operated import BEST, BETTER, replan_event

NUMBER = replace(BETTER, action=Action.COUNT)
BACK = replace(BETTER, action=Action.BACK_OUT)


def outcome(decision: ReplanDecision | None, done: bool, event: ReplanEvent | None) -> Outcome:
    return Outcome("a", Mode.ACTING, decision, None, carried_out=done, model="m", event=event)


def decided(action: str, why: str, became: str) -> Row:
    return Row("replan_decisions_total", 1, {"action": action, "why": why, "outcome": became})


def changed(action: str) -> Row:
    return Row("layout_changes_total", 1, {"action": action})


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (
            outcome(BETTER, True, replan_event()),
            [decided("change", "better", "carried_out"), changed("change")],
        ),
        (
            outcome(BETTER, False, replan_event(carried_out=False)),
            [decided("change", "better", "advised")],
        ),
        (
            outcome(BEST, False, replan_event(decision=BEST, carried_out=False)),
            [decided("keep", "best", "nothing")],
        ),
        (
            outcome(NUMBER, True, replan_event(decision=NUMBER)),
            [decided("count", "better", "carried_out")],
        ),
        # Carried out again, and the log has it already.
        (outcome(BACK, True, None), [changed("back_out")]),
        (outcome(BETTER, False, None), []),
        (outcome(None, False, None), []),
    ],
)
def test_what_a_look_counts(found: Outcome, expected: list[Row]) -> None:
    assert list(counts(found)) == expected


def test_every_count_has_its_metric_and_all_its_labels() -> None:
    told: list[tuple[str, float, dict[str, str]]] = []

    class Counting:
        def __init__(self, name: str) -> None:
            self.name = name

        def inc(self, value: float, tags: dict[str, str]) -> None:
            told.append((self.name, value, tags))

    metrics = ReplanMetrics.__new__(ReplanMetrics)
    metrics._made = {name: Counting(name) for name in REPLANNER_METRICS}
    metrics.count(outcome(BETTER, True, replan_event()))
    assert [name for name, _, _ in told] == list(REPLANNER_METRICS)
    for name, value, tags in told:
        assert value == 1
        assert set(tags) == set(REPLANNER_METRICS[name].labels) >= set(CONTROLLER_LABELS)
        assert (tags["application"], tags["model"]) == ("a", "m")
