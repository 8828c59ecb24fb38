"""The commands around the views: the loop of `top`, limits of `control set`, `status`."""

import io
import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from rich.console import Console

from rayserve_par.cli import main
from rayserve_par.cli.control_command import limits_of
from rayserve_par.cli.operate.frame import Frame, Look, render_frame
from rayserve_par.cli.operate.looks import Looks
from rayserve_par.cli.status_command import as_data, render
from rayserve_par.cli.top_command import Looker, show
from rayserve_par.control.live.asking import Limits
from rayserve_par.control.live.records import Override
from rayserve_par.control.observe import Observation
from rayserve_par.errors import RefusedError
from tests.unit.cli.operate.test_operate_frame import look, text_of
from tests.unit.control.live.operated import (
    NOON,
    app_state,
    control,
    control_status,
    event,
    observation,
    replan_event,
)


class Pressed:
    """Keys one after another; it fails if the loop goes on after the last one."""

    def __init__(self, keys: Sequence[str]) -> None:
        self.left = list(keys)

    def pressed(self, wait_seconds: float) -> str:
        assert wait_seconds > 0
        return self.left.pop(0)


@pytest.mark.parametrize("keys", [["q"], ["", "x", "Q"]])
def test_top_draws_until_q(keys: list[str]) -> None:
    drawn = io.StringIO()
    console = Console(file=drawn, force_terminal=True, width=90, height=40, color_system=None)
    pressed = Pressed(keys)
    show(console, pressed, lambda: (look(), "lost: no answer"))
    assert pressed.left == []
    assert "app0  RUNNING  acting" in drawn.getvalue()
    assert "The latest look failed: lost: no answer" in drawn.getvalue()
    # The alternate screen is left again.
    assert drawn.getvalue().index("\x1b[?1049h") < drawn.getvalue().rindex("\x1b[?1049l")


def test_top_waits_for_the_first_look() -> None:
    drawn = io.StringIO()
    console = Console(file=drawn, force_terminal=True, width=90, height=40)
    answers: list[tuple[Look | None, str]] = [(None, ""), (None, "down"), (look(), "")]
    show(console, Pressed(["", "", "q"]), lambda: answers.pop(0))
    text = drawn.getvalue()
    assert text.index("Looking at the cluster") < text.index("down") < text.index("app0")


def test_looks_go_on_after_a_failure_and_keep_the_last_one() -> None:
    answers = iter([1, ValueError("gone"), 3])
    seen_error = threading.Event()
    found: list[tuple[int | None, str]] = []

    def answer() -> int:
        one = next(answers, 3)
        if isinstance(one, Exception):
            raise one
        return one

    with Looks(answer, 0.05) as looks:
        end = time.monotonic() + 10
        while time.monotonic() < end:
            latest = looks.latest
            if not found or found[-1] != latest:
                found.append(latest)
            if latest[1]:
                seen_error.set()
            if latest[0] == 3:
                break
            time.sleep(0.002)
    assert seen_error.is_set()
    assert (1, "ValueError: gone") in found
    assert found[-1] == (3, "")


def test_what_is_missing_is_not_found_anew_at_every_look(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Mapping[str, str] | None] = []

    def looked(_: object, missing: Mapping[str, str] | None) -> Observation:
        given.append(missing)
        return replace(observation((app_state(),)), missing={"chat": "two GPUs"})

    monkeypatch.setattr("rayserve_par.control.observe.observe", looked)
    monkeypatch.setattr("rayserve_par.control.live.reading.read_controls", lambda _: {})
    moments = [0.0, 5.0, 10.5, 12.0]
    looker = Looker(clock=lambda: moments.pop(0))
    for _ in range(4):
        assert looker.look().seen.missing == {"chat": "two GPUs"}
    known = {"chat": "two GPUs"}
    assert given == [None, known, None, known]


def test_what_was_missing_is_not_said_of_what_runs() -> None:
    for status, said in (("DEPLOYING", True), ("RUNNING", False)):
        seen = replace(observation((app_state(status=status),)), missing={"chat": "two GPUs"})
        frame = Frame(Look(seen, {}, NOON), NOON, 100)
        assert ("two GPUs" in text_of(render_frame(frame))) is said


def test_limits_are_the_controllers() -> None:
    found = limits_of(app_state(), control(status=control_status()))
    assert found == Limits(least=1, most=8, gpus_per_instance=2, running=3, room=4)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({}, "its config has no `autoscaling`"),
        ({"autoscaling": {"max_replicas": 3}}, "has not reported yet"),
    ],
)
def test_without_a_controller_a_number_is_refused(args: dict[str, object], message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        limits_of(app_state(config={"args": args}), control())


def test_status_shows_the_controller() -> None:
    seen = observation((app_state(), app_state("plain")))
    controls = {
        "chat": control(
            status=control_status(problems=("too slow",)),
            override=Override(instances=3),
            events=(event(),),
        ),
        "plain": control("plain"),
    }
    shown = text_of(render(seen, controls, NOON), 140)
    assert "acting  3       2      forecast" in shown
    assert "#14 2 -> 3 forecast: a note" in shown
    assert "chat: asked for 3 instances, until resumed" in shown
    assert "chat: too slow" in shown
    data = json.loads(json.dumps(as_data(seen, controls, NOON), allow_nan=False))
    chat, plain = data["applications"]
    assert chat["control"]["status"]["wanted"] == 3
    assert chat["control"]["override"]["instances"] == 3
    assert plain["control"] is None


def test_status_shows_what_the_replanner_decided() -> None:
    seen = observation((app_state(),))
    controls = {"chat": control(replans=(replan_event(),))}
    shown = text_of(render(seen, controls, NOON), 140)
    assert "#r3 change to 2 x TP2 by surge" in shown
    [chat] = as_data(seen, controls, NOON)["applications"]
    assert chat["control"]["last_replan"]["decision"]["why"] == "better"


def test_status_without_controllers_has_no_table_of_them() -> None:
    seen = observation((app_state(),))
    assert "controller" not in text_of(render(seen, {"chat": control()}, NOON))


def test_the_commands_are_there(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["top"], ["events"], ["control", "pause"], ["control", "set"]):
        with pytest.raises(SystemExit) as ended:
            main.app([*command, "--help"])
        assert ended.value.code == 0
        assert "--address" in capsys.readouterr().out
