"""Events read back from the store, and which of them are new."""

import json
from dataclasses import replace

import pytest

pytest.importorskip("ray", reason="the store is Ray's")

from rayserve_par.control.decide.replan_events import ReplanLog
from rayserve_par.control.live import store
from rayserve_par.control.live.overview import AppControl
from rayserve_par.control.live.reading import read_controls, read_decisions
from rayserve_par.control.live.records import ControlStatus, Override
from rayserve_par.control.live.told import finite, in_order, news, told_events, told_replans
from rayserve_par.control.replanning.record import ReplanRecord
from rayserve_par.errors import RefusedError
from tests.unit.control.decide.replan_cases import TP2
from tests.unit.control.live.operated import (
    NOON,
    control,
    control_status,
    event,
    log,
    replan_event,
)


def test_an_event_survives_the_store() -> None:
    made = event(came_true=True)
    [told] = told_events("chat", json.loads(json.dumps(log(made))))
    assert (told.number, told.before, told.wanted, told.reason) == (14, 2, 3, "forecast")
    assert told.inputs == made.inputs
    assert told.options == made.decision.options
    assert told.came_true == made.came_true
    assert told.predicted == made.predicted


def test_keys_of_another_release_are_left_out_and_missing_parts_are_none() -> None:
    found = log(event())
    one = found["events"][0]
    one["kind"] = "new"
    one["inputs"]["temperature"] = 3
    del one["decision"]["options"][0]["meets"]
    [told] = told_events("chat", found)
    assert told.inputs is not None
    assert [option.instances for option in told.options] == [2, 3]
    assert told.as_object()["kind"] == "new"


@pytest.mark.parametrize("broken", [{}, {"events": [{}]}, {"events": [{"number": "x"}]}])
def test_what_is_no_log_is_refused(broken: dict[str, object]) -> None:
    with pytest.raises(RefusedError, match="event log of chat cannot be read"):
        told_events("chat", broken)


def test_a_replan_survives_the_store() -> None:
    endless = replace(TP2, ttft_seconds=float("inf"))
    made = (replan_event(1, came_true=True), replan_event(2, candidates=(endless,)))
    record = ReplanRecord(log=ReplanLog(made, 2)).as_object()
    found = json.loads(json.dumps(record))
    assert told_replans("chat", found) == made
    assert ReplanRecord.from_object(found).log.events == made
    assert told_replans("chat", None) == ()


@pytest.mark.parametrize("broken", [{}, {"log": {}}, {"log": {"events": [{"number": 1}]}}])
def test_what_is_no_replan_log_is_refused(broken: dict[str, object]) -> None:
    with pytest.raises(RefusedError, match="re-planner's log of chat cannot be read"):
        told_replans("chat", broken)


def test_a_replan_as_json() -> None:
    data = finite(replan_event(came_true=True).as_object())
    assert json.loads(json.dumps(data, allow_nan=False)) == json.loads(json.dumps(data))
    assert (data["log"], data["name"], data["app"]) == ("replan", "r3", "chat")
    assert data["predicted"]["requests_per_second"] == 10.0
    assert data["came_true"]["ready"] == 2
    [scaling] = told_events("chat", log(event()))
    assert (scaling.as_object()["log"], scaling.as_object()["name"]) == ("scaling", "14")


def test_json_has_no_infinite_numbers() -> None:
    assert finite({"a": [1.0, float("inf")], "b": (float("nan"), "x")}) == {
        "a": [1.0, None],
        "b": [None, "x"],
    }


def test_news() -> None:
    early, late = event(1, seconds=10.0), event(2, seconds=20.0)
    before = told_events("a", log(early))
    told = event(1, seconds=10.0, came_true=True)
    after = (*told_events("b", log(event(1, seconds=15.0))), *told_events("a", log(told, late)))
    assert [(one.app, one.number) for one in news(before, after)] == [("a", 1), ("b", 1), ("a", 2)]
    assert news(after, after) == ()
    # A log that began anew has the same numbers at other times.
    assert len(news(before, told_events("a", log(event(1, seconds=11.0))))) == 1


def test_the_two_logs_in_one_order_of_time() -> None:
    scaling = told_events("a", log(event(1, seconds=10.0), event(2, seconds=30.0)))
    replan = replan_event(1, app="a", seconds=20.0)
    found = in_order((*scaling, replan))
    assert [one.name for one in found] == ["1", "r1", "2"]
    assert news(scaling, found) == (replan,)
    told = replan_event(1, app="a", seconds=20.0, came_true=True)
    assert news(found, (*scaling, told)) == (told,)


def test_a_controllers_state_as_json() -> None:
    assert AppControl("chat").as_object(NOON) is None
    data = control(
        status=control_status(),
        override=Override(paused=True, until_seconds=NOON - 1),
        events=(event(),),
    ).as_object(NOON + 20)
    assert data is not None
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert data["stale"] is True
    assert data["age_seconds"] == 21.0
    assert data["override"] is None
    assert data["last_event"]["number"] == 14
    assert data["last_replan"] is None
    assert data["status"]["mode"] == "acting"


@pytest.mark.parametrize(
    ("look_seconds", "age", "stale"),
    [(2.0, 15.0, False), (2.0, 15.5, True), (30.0, 16.0, False), (30.0, 90.0, False),
     (30.0, 90.5, True)],
)  # fmt: skip
def test_a_status_is_stale_after_three_looks_of_its_application(
    look_seconds: float, age: float, stale: bool
) -> None:
    status = control_status(seconds=NOON, look_seconds=look_seconds)
    assert control(status=status).stale(NOON + age) is stale


def test_a_status_of_a_release_that_did_not_tell_its_looks_is_read() -> None:
    found = control_status().as_object()
    del found["look_seconds"]
    assert not control(status=ControlStatus.from_object(found)).stale(NOON)


def test_what_the_replanner_decided_is_there_without_a_scaling_policy() -> None:
    data = control(replans=(replan_event(3),)).as_object(NOON)
    assert data is not None
    assert (data["status"], data["last_event"]) == (None, None)
    assert data["last_replan"]["name"] == "r3"


def test_a_log_that_cannot_be_read_does_not_hide_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    record = ReplanRecord(log=ReplanLog((replan_event(3),), 3)).as_object()
    monkeypatch.setattr(store, "read_statuses", lambda: ())
    monkeypatch.setattr(store, "read_override", lambda _: Override())
    monkeypatch.setattr(store, "read_events", lambda _: {"events": [{}]})
    monkeypatch.setattr(store, "read_replan", lambda _: record)
    found = read_controls(["chat"])["chat"]
    assert [one.name for one in found.events] == ["r3"]
    assert "event log of chat cannot be read" in found.unreadable
    with pytest.raises(RefusedError, match="event log of chat"):
        read_decisions(["chat"])
