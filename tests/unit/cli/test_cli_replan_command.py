"""What `replan` and `status` print: candidates, the decision, events, the layout's two words."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

pytest.importorskip("ray", reason="outcomes come from modules that need Ray")

from rayserve_par.cli import connect as connecting
from rayserve_par.cli import replan_command
from rayserve_par.cli.main import app
from rayserve_par.cli.replan_command import as_data, render
from rayserve_par.cli.status_command import layout_told
from rayserve_par.control.decide.change_way import Way
from rayserve_par.control.decide.replan_events import ReplanLog
from rayserve_par.control.decide.replan_state import Action, ReplanDecision, ReplanMemory, Why
from rayserve_par.control.decide.trial import Figures, Window
from rayserve_par.control.live.records import Mode
from rayserve_par.control.replanning import replanner as module
from rayserve_par.control.replanning.replanner import Outcome
from tests.unit.control.decide.replan_cases import TP1, TP2, state

SEEN = state(TP1, TP2, now_seconds=0.0)
CHANGE = ReplanDecision(
    Action.CHANGE, Why.BETTER, "TP2 is better by 38%", TP2.choice(2), Way.SURGE, predicted=TP2
)
KEEP = ReplanDecision(Action.KEEP, Why.BEST, "TP1 is the planner's choice")


def printed(*outcomes: Outcome, log: ReplanLog | None = None) -> str:
    text = io.StringIO()
    console = Console(file=text, width=200)
    console.print(render(outcomes, log.events if log else ()))
    return text.getvalue()


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (
            Outcome("a", Mode.DRY_RUN, CHANGE, SEEN),
            "change to 2 x TP2 by surge (not done: --apply). better: TP2 is better by 38%",
        ),
        (Outcome("a", Mode.PAUSED, CHANGE, SEEN), "(not done: paused)"),
        (Outcome("a", Mode.ACTING, CHANGE, SEEN, carried_out=True), "by surge (done)."),
        (Outcome("a", Mode.ACTING, KEEP, SEEN), "keep. best: TP1 is the planner's choice"),
        (Outcome("a", Mode.ACTING, None, None, problem="no GPU"), "no GPU"),
    ],
)
def test_an_outcome_in_words(outcome: Outcome, words: str) -> None:
    assert words in printed(outcome)


def test_candidates_show_what_fits_and_which_one_serves() -> None:
    text = printed(Outcome("a", Mode.DRY_RUN, CHANGE, SEEN))
    [present] = [line for line in text.splitlines() if "now, 2 of 2 serve" in line]
    assert present.split()[:4] == ["TP1", "on", "8xH100", "4"]
    assert "TP2 on 8xH100" in text


def test_events_tell_what_came_true() -> None:
    log = ReplanLog().after("a", SEEN, ReplanMemory(), CHANGE, carried_out=True)
    window = Window(0.0).after(90.0, Figures(7.0, 0.4, 0.03))
    log = log.after(
        "a", state(TP2, now_seconds=90.0), ReplanMemory(window=window), KEEP, carried_out=False
    )
    text = printed(Outcome("a", Mode.ACTING, KEEP, SEEN), log=log)
    assert "after 1 min 30 s: 2 ready, 7 requests/s, TTFT 400 ms, TPOT 30 ms" in text
    advised = ReplanLog().after("a", SEEN, ReplanMemory(), CHANGE, carried_out=False)
    assert "(only advised)" in printed(Outcome("a", Mode.ACTING, KEEP, SEEN), log=advised)


def test_nothing_deployed_is_said() -> None:
    assert "No application of rayserve_par" in printed()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"model": "m"}, "auto"),
        ({"model": "m", "layout": "auto", "replanned": {"tp": 2, "pp": 2}}, "TP2PP2"),
        ({"model": "m", "layout": {"tp": 2}}, "set: TP2"),
        ({"look_seconds": 5}, ""),
    ],
)
def test_status_tells_the_users_word_and_the_controllers(args: dict[str, Any], words: str) -> None:
    told = layout_told({"args": args})
    assert words in told
    assert told.startswith("auto, re-planned: ") is ("replanned" in args)


def test_without_apply_the_command_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str | None, bool, bool]] = []

    class Fake(module.Replanner):
        def look(self, only: str | None = None, *, keep: bool = True) -> tuple[Outcome, ...]:
            asked.append((only, keep, self.dry_run))
            done = Outcome("a", Mode.ACTING, CHANGE, SEEN, carried_out=True)
            if self.dry_run:
                return (Outcome("a", Mode.DRY_RUN, CHANGE, SEEN),)
            return (done if len(asked) == 2 else Outcome("a", Mode.ACTING, KEEP, SEEN),)

    monkeypatch.setattr(connecting, "connect", lambda _: None)
    monkeypatch.setattr(module, "Replanner", Fake)
    monkeypatch.setattr(replan_command, "_events", lambda _: [])
    monkeypatch.setattr(replan_command, "_LOOK_SECONDS", 0.0)
    done = CliRunner().invoke(app, ["replan", "a", "--json"])
    assert done.exit_code == 0, done.output
    [data] = json.loads(done.output)
    assert data == json.loads(json.dumps(as_data(Outcome("a", Mode.DRY_RUN, CHANGE, SEEN))))
    assert asked == [("a", False, True)]
    done = CliRunner().invoke(app, ["replan", "--apply"])
    assert done.exit_code == 0, done.output
    assert asked[1:] == [(None, True, False), (None, True, False)]
    assert "Rolled out." in done.output
