"""Decisions as text, which one a name means, and the command that lists both logs."""

import datetime
import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from rayserve_par.cli import connect as connecting
from rayserve_par.cli.events_command import with_name
from rayserve_par.cli.main import app
from rayserve_par.cli.operate.event_view import render_event, render_whole_event
from rayserve_par.control.decide.replan_events import ReplanEvent, ReplanLog
from rayserve_par.control.live import store
from rayserve_par.control.live.told import told_events
from rayserve_par.control.replanning.record import ReplanRecord
from rayserve_par.control.serve_client import ServeClient
from rayserve_par.errors import RefusedError
from tests.unit.cli.operate.test_operate_frame import text_of
from tests.unit.control.decide.replan_cases import TP1, TP2
from tests.unit.control.live.operated import BEST, app_state, event, log, replan_event


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


def test_a_replan_in_lines() -> None:
    assert text_of(render_event(replan_event(came_true=True), datetime.UTC), 120) == (
        "#r3  2026-11-23 11:58:30  chat  2 x TP1: change to 2 x TP2 by surge  better: "
        "TP2 is better by 38%\n"
        "  inputs      2 ready on 2x8xH100; 2.31 requests/s of 512 in, 128 out\n"
        "  considered  TP2 on 8xH100: 4 fit, 2 beside; 10 requests/s each, TTFT 500 ms, "
        "TPOT 40 ms, keeps the limits\n"
        "              TP1 on 8xH100: 4 fit, 2 beside; 5 requests/s each, TTFT 500 ms, "
        "TPOT 40 ms, keeps the limits\n"
        "  predicted   10 requests/s each, TTFT 500 ms, TPOT 40 ms, keeps the limits; 38% better; "
        "costs 240 GPU-seconds\n"
        "  came true   after 1 min 20 s: 2 ready, 2.4 requests/s, TTFT 410 ms, TPOT 31 ms"
    )


@pytest.mark.parametrize(
    ("event", "expected", "absent"),
    [
        (replan_event(), ["came true   not known yet"], ["only advised"]),
        (replan_event(carried_out=False), ["by surge (only advised)"], ["came true"]),
        (replan_event(decision=BEST), ["2 x TP1: keep  best: TP1"], ["came true", "predicted"]),
        (replan_event(before=None), ["chat  change to"], []),
        (replan_event(requests_per_second=None), ["a load that nobody measures of 512 in"], []),
        (replan_event(candidates=(TP1,) * 5), ["and 2 more (--number r3)"], []),
    ],
)
def test_what_a_replan_says(event: ReplanEvent, expected: list[str], absent: list[str]) -> None:
    shown = text_of(render_event(event, datetime.UTC), 160)
    assert all(one in shown for one in expected), shown
    assert not any(one in shown for one in absent), shown


def test_a_replan_whole() -> None:
    candidates = (TP2, replace(TP1, excess=1.2))
    shown = text_of(render_whole_event(replan_event(candidates=candidates), datetime.UTC), 140)
    assert "policy     re-planner" in shown
    assert "came true  not known yet" in shown
    assert " ".join(shown.splitlines()[-2].split()) == "TP2 on 8xH100 4 2 10 500 ms 40 ms keeps"
    assert shown.splitlines()[-1].endswith("breaks")
    kept = text_of(render_whole_event(replan_event(decision=BEST), datetime.UTC))
    assert "came true  not measured: no layout was changed" in kept


def test_a_name_means_one_decision() -> None:
    found = (
        *told_events("a", log(event(1), event(2))),
        *told_events("b", log(event(2))),
        replan_event(1, app="a"),
        replan_event(7, app="b"),
    )
    assert with_name(found, "1").app == "a"
    assert with_name(found, "#1") == with_name(found, "1")
    assert with_name(found, "r7") is found[-1]
    assert with_name(found, "#R7") is found[-1]
    for name, words in (
        ("2", "a, b each have an event 2; name one"),
        ("9", "no event 9; kept are 1 to 2 and r1 to r7"),
        ("r2", "no event r2; kept"),
        ("7", "no event 7; kept"),
        ("x7", "'x7' is no decision: give 12"),
        ("rr7", "'rr7' is no decision"),
        ("", "'' is no decision"),
    ):
        with pytest.raises(RefusedError, match=words):
            with_name(found, name)
    with pytest.raises(RefusedError, match="none is kept"):
        with_name((), "9")


class Kept:
    """The store and Serve of two applications, one of them deleted long ago."""

    def __init__(self) -> None:
        self.logs = {"a": log(event(1, seconds=10.0), event(2, seconds=30.0)), "b": log()}
        self.replans = {"a": [replan_event(1, app="a", seconds=20.0)], "gone": [replan_event(1)]}

    def use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connecting, "connect", lambda _: None)
        monkeypatch.setattr(store, "decided_apps", lambda: ("a", "gone"))
        monkeypatch.setattr(store, "read_events", lambda app: self.logs.get(app, log()))
        monkeypatch.setattr(store, "read_replan", self._replan)
        monkeypatch.setattr(ServeClient, "apps", lambda _: (app_state("a"), app_state("b")))

    def _replan(self, app: str) -> dict[str, object] | None:
        events = self.replans.get(app)
        return None if events is None else ReplanRecord(log=ReplanLog(tuple(events))).as_object()


def names(output: str) -> list[str]:
    return [json.loads(line)["name"] for line in output.splitlines()]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], ["1", "r1", "2", "r1"]),
        (["a"], ["1", "r1", "2"]),
        (["a", "--last", "2"], ["r1", "2"]),
        (["gone"], ["r1"]),
        (["b"], []),
    ],
)
def test_the_command_lists_both_logs_in_one_order(
    arguments: list[str], expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Kept().use(monkeypatch)
    done = CliRunner().invoke(app, ["events", *arguments, "--json"])
    assert done.exit_code == 0, done.output
    assert names(done.output) == expected


def test_the_command_shows_one_of_either_log(monkeypatch: pytest.MonkeyPatch) -> None:
    Kept().use(monkeypatch)
    for name, words in (("r1", "policy     re-planner"), ("1", "policy     rayserve_par")):
        done = CliRunner().invoke(app, ["events", "a", "--number", name])
        assert (done.exit_code, words in done.output) == (0, True), done.output
    found = CliRunner().invoke(app, ["events", "a", "--number", "r1", "--json"])
    assert json.loads(found.output)["predicted"]["tpot_seconds"] == 0.04


def test_following_tells_what_comes_to_either_log(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Kept()
    kept.use(monkeypatch)
    turns = iter(range(3))

    def wait(_: float) -> None:
        match next(turns):
            case 0:
                kept.replans["a"].append(replan_event(2, app="a", seconds=40.0))
            case 1:
                kept.replans["a"][1] = replan_event(2, app="a", seconds=40.0, came_true=True)
                kept.logs["b"] = log(event(1, seconds=50.0))
            case _:
                raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", wait)
    done = CliRunner().invoke(app, ["events", "--json", "--follow", "--last", "1"])
    assert done.exit_code == 0, done.output
    assert names(done.output) == ["r1", "r2", "r2", "1"]
