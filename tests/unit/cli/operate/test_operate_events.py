"""Decisions as text, and which one a number means."""

import datetime

import pytest

from rayserve_par.cli.events_command import with_number
from rayserve_par.cli.operate.event_view import render_event, render_whole_event
from rayserve_par.control.live.told import told_events
from rayserve_par.errors import RefusedError
from tests.unit.cli.operate.test_operate_frame import text_of
from tests.unit.control.live.operated import event, log


def test_an_event_in_lines() -> None:
    [told] = told_events("chat", log(event(came_true=True)))
    assert text_of(render_event(told, datetime.UTC), 120) == (
        "#14  2026-11-23 11:59:00  chat  2 -> 3  forecast: a note\n"
        "  inputs      2 ready, 0 starting, 0 draining; 2.31 requests/s of 512 in, 128 out; "
        "34 running, 2 waiting; KV 63% at\n"
        "              most; a start takes 41 s; room for 4 more\n"
        "  considered  1: TTFT never, TPOT 90 ms, 190% busy, misses the target\n"
        "              2: TTFT 3.1 s, TPOT 48 ms, 97% busy, misses the target\n"
        "              3: TTFT 380 ms, TPOT 30 ms, 64% busy, meets the target\n"
        "  came true   after 42 s: 3 ready, 2.4 requests/s, TTFT 410 ms, TPOT 31 ms"
    )


def test_an_event_whole() -> None:
    [told] = told_events("chat", log(event()))
    shown = text_of(render_whole_event(told, datetime.UTC), 100)
    assert "policy     rayserve_par" in shown
    assert "needed     3 by load and queues" in shown
    assert "predicted  TTFT 380 ms, TPOT 30 ms, 64% busy, meets the target" in shown
    assert "came true  not known yet" in shown
    assert "        3  380 ms  30 ms   64%  meets   decided" in shown


def test_an_event_of_which_only_the_change_is_known() -> None:
    found = {"number": 1, "seconds": 0.0, "before": 1, "decision": {"wanted": 2, "reason": "new"}}
    [told] = told_events("chat", {"counted": 1, "events": [found]})
    assert text_of(render_event(told, datetime.UTC)) == (
        "#1  1970-01-01 00:00:00  chat  1 -> 2  new\n  came true  not known yet"
    )
    assert "predicted  nothing for this number" in text_of(render_whole_event(told, datetime.UTC))


def test_a_number_means_one_event() -> None:
    found = (*told_events("a", log(event(1), event(2))), *told_events("b", log(event(2))))
    assert with_number(found, 1).app == "a"
    with pytest.raises(RefusedError, match="a, b each have an event 2; name one"):
        with_number(found, 2)
    with pytest.raises(RefusedError, match="no event 9; kept are 1 to 2"):
        with_number(found, 9)
    with pytest.raises(RefusedError, match="none is kept"):
        with_number((), 9)
