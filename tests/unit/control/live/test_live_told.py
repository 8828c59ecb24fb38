"""Events read back from the store, and which of them are new."""

import json

import pytest

from rayserve_par.control.live.overview import AppControl
from rayserve_par.control.live.records import Override
from rayserve_par.control.live.told import finite, news, told_events
from rayserve_par.errors import RefusedError
from tests.unit.control.live.operated import NOON, control, control_status, event, log


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
    assert data["status"]["mode"] == "acting"
