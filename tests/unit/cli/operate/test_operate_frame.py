"""What `top` shows, as text at fixed sizes."""

import datetime
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console, RenderableType

from rayserve_par.cli.operate.app_view import AppLines, render_app
from rayserve_par.cli.operate.frame import Frame, Look, events_object, render_frame
from rayserve_par.cli.operate.instance_view import bar, render_instances
from rayserve_par.cli.operate.node_view import nodes_text
from rayserve_par.control.live.overview import AppControl
from rayserve_par.control.live.records import Mode, Override
from rayserve_par.placement.picture import CellText, NodeView
from tests.unit.control.live.operated import (
    NOON,
    app_state,
    control,
    control_status,
    event,
    instance,
    observation,
    replan_event,
)


def text_of(part: RenderableType, width: int = 100) -> str:
    console = Console(width=width, color_system=None, force_terminal=False, highlight=False)
    with console.capture() as captured:
        console.print(part)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def app_text(found: AppControl, width: int = 100, **state: object) -> str:
    lines = AppLines(app_state(**state), found, NOON, zone=datetime.UTC)  # type: ignore[arg-type]
    return text_of(render_app(lines), width)


def test_an_application_with_a_controller() -> None:
    found = control(status=control_status(), events=(event(13), event(14)))
    assert app_text(found) == (
        "chat  RUNNING  acting  tp2 (2 GPUs each)  status 1 s ago\n"
        "  instances  3 wanted, 2 ready, 1 starting, 0 draining; 1 to 8, room for 4 more; "
        "forecast\n"
        "  load       2.31 requests/s of 512 in, 128 out; 13 running, 3 waiting; KV 63% at most\n"
        "  TTFT       412 ms of 2 s ok; predicted 380 ms\n"
        "  TPOT       47.1 ms of 50 ms near; predicted 30 ms; steps take 1.08 x the plan\n"
        "  decisions  11:59:00 #14 2 -> 3 forecast: a note\n"
        "             11:59:00 #13 2 -> 3 forecast: a note"
    )


@pytest.mark.parametrize(
    ("scaling", "replan_age", "expected"),
    [
        # The newest three of both.
        (2, 30.0, ["11:59:30 #r3", "11:59:00 #14", "11:59:00 #13"]),
        (3, 70.0, ["11:59:00 #15", "11:59:00 #14", "11:59:00 #13", "11:58:50 #r3"]),
        # The re-planner's newest is shown however old it is, and then with its day.
        (4, 50_000.0, ["11:59:00 #16", "11:59:00 #15", "11:59:00 #14", "2026-11-22 22:06:40 #r3"]),
        (0, 70.0, ["11:58:50 #r3", "2026-11-22 11:00:00 #r2"]),
    ],
)
def test_decisions_of_both_logs(scaling: int, replan_age: float, expected: list[str]) -> None:
    found = control(
        status=control_status(),
        events=tuple(event(13 + number) for number in range(scaling)),
        replans=(
            replan_event(2, seconds=NOON - 90_000),
            replan_event(seconds=NOON - replan_age),
        ),
    )
    lines = app_text(found, 140).splitlines()[5:]
    told = [line.removeprefix("  decisions").strip() for line in lines]
    assert [one[: len(start)] for one, start in zip(told, expected, strict=True)] == expected


def test_a_replan_in_a_line() -> None:
    shown = app_text(control(replans=(replan_event(carried_out=False),)), 140)
    assert (
        "decisions  11:58:30 #r3 change to 2 x TP2 by surge (only advised)  "
        "better: TP2 is better by 38%" in shown
    )


def test_an_application_without_a_controller_shows_what_serve_knows() -> None:
    assert app_text(control()) == (
        "chat  RUNNING  no controller has reported\n  instances  2 running"
    )


@pytest.mark.parametrize(
    ("status", "override", "expected"),
    [
        (control_status(seconds=NOON - 200), Override(), "STALE: status 3 min 20 s ago"),
        (control_status(seconds=NOON + 70), Override(), "status 1 min 10 s ahead of this clock"),
        (control_status(ttft_seconds=2.001), Override(), "2 s of 2 s OVER"),
        (control_status(ttft_seconds=None), Override(), "- of 2 s -; predicted"),
        (control_status(predicted_ttft_seconds=None), Override(), "ok; predicted -"),
        (control_status(decided=5), Override(), "3 wanted (5 decided), 2 ready"),
        (control_status(room=None), Override(), "draining; 1 to 8; forecast"),
        (control_status(instances=()), Override(), "0 running, 0 waiting; KV 0% at most"),
        (control_status(problems=("no report of x",)), Override(), "problem    no report of x"),
        (control_status(mode=Mode.DRY_RUN), Override(), "RUNNING  dry_run  tp2"),
        (
            control_status(),
            Override(paused=True, until_seconds=NOON + 1800, note="upgrade"),
            "asked      paused, for 30 min more (upgrade)",
        ),
        (control_status(), Override(instances=4), "asked      4 instances, until resumed"),
        (None, Override(dry_run=True), "asked      dry run, until resumed"),
    ],
)
def test_what_a_line_says(status: object, override: Override, expected: str) -> None:
    assert expected in app_text(AppControl("chat", status, override))  # type: ignore[arg-type]


def test_an_override_that_is_over_is_not_shown() -> None:
    over = Override(paused=True, until_seconds=NOON - 1)
    assert "asked" not in app_text(control(status=control_status(), override=over))


def test_serves_message_shows_where_the_application_does_not_run() -> None:
    message = "Traceback\n  at x\nValueError: no room"
    shown = app_text(control(), status="DEPLOY_FAILED", message=message)
    assert "problem    ValueError: no room" in shown
    assert "ValueError" not in app_text(control(), message=message)


def look(apps: int = 1, instances: int = 2, nodes: int = 2, **status: object) -> Look:
    states = tuple(app_state(f"app{n}") for n in range(apps))
    seen = observation(states, nodes=nodes, instances=instances)
    reports = tuple(instance(n, "app0", waiting=n % 7) for n in range(instances))
    controls = {
        state.name: control(
            state.name,
            control_status(state.name, **{"instances": reports, **status}),  # type: ignore[arg-type]
            events=(event(),),
        )
        for state in states
    }
    return Look(seen, controls, NOON)


def frame_text(seen: Look, width: int = 80, height: int | None = 40, **more: object) -> str:
    frame = Frame(seen, NOON + 0.5, width, height, zone=datetime.UTC)
    return text_of(render_frame(replace(frame, **more)), width)  # type: ignore[arg-type]


def test_a_frame_of_eighty_columns() -> None:
    shown = frame_text(look())
    lines = shown.splitlines()
    assert lines[0] == "rayserve-par  12:00:00  2 nodes, 4 of 8 GPUs used, 2 instances  q leaves"
    assert "app0#1    ready        4        1  ██░░░░░░░░  25%   2 s ago" in shown
    assert "node-0: 4 of 4 GPUs used" in shown
    assert "app0#0" in shown
    assert max(len(line) for line in lines) <= 80


def test_a_late_look_and_a_failed_one_are_said() -> None:
    shown = frame_text(look(), now_seconds=NOON + 30.0, error="GetTimeoutError: gone")
    assert "LATE: looked 30 s ago" in shown
    assert "The latest look failed: GetTimeoutError: gone" in shown


def test_a_hundred_instances_are_folded() -> None:
    shown = frame_text(look(instances=100, nodes=50), height=40)
    assert len(shown.splitlines()) <= 40
    assert "100 instances" in shown
    assert "less busy: 4 running, 0 to 6 waiting, KV 25% to 25%" in shown
    assert "more nodes: " in shown


def test_nothing_deployed() -> None:
    seen = Look(observation((app_state(),), instances=0), {}, NOON)
    empty = Look(replace(seen.seen, apps=()), {}, NOON)
    assert "No application is deployed." in frame_text(empty)


def test_applications_beyond_the_room_are_counted_and_troubled_ones_come_first() -> None:
    seen = look(apps=30)
    status = seen.control("app29").status
    assert status is not None
    troubled = replace(status, problems=("out of reach",))
    controls = {**seen.controls, "app29": control("app29", troubled)}
    shown = frame_text(Look(seen.seen, controls, NOON), height=24)
    assert shown.splitlines()[2].startswith("app29")
    assert "more applications" in shown


@settings(max_examples=60)
@given(
    width=st.integers(60, 200),
    height=st.integers(12, 80),
    apps=st.integers(0, 12),
    instances=st.integers(0, 100),
)
def test_a_frame_never_leaves_its_terminal(
    width: int, height: int, apps: int, instances: int
) -> None:
    made = look(max(1, apps), instances, nodes=max(1, -(-instances // 2)))
    if apps == 0:
        made = Look(replace(made.seen, apps=()), {}, NOON)
    lines = frame_text(made, width, height).splitlines()
    assert max(len(line) for line in lines) <= width
    assert len(lines) <= height


def test_every_instance_has_a_row_or_is_counted() -> None:
    rows = [("chat", instance(n, running=n)) for n in range(9)]
    shown = text_of(render_instances(rows, {"chat-8": "chat#0"}, 4))
    assert len(shown.splitlines()) == 5
    assert "chat#0 " in shown
    assert "and 6 instances less busy: 0 to 5 running, 0 waiting" in shown


def test_a_late_report_is_marked() -> None:
    rows = [("chat", instance(0, age_seconds=31.0))]
    assert "31 s ago LATE" in text_of(render_instances(rows, {}, 4))


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (0.0, "░░░░░░░░░░   0%"),
        (0.63, "██████░░░░  63%"),
        (1.0, "██████████ 100%"),
        (1.4, "██████████ 140%"),
    ],
)
def test_bars(share: float, expected: str) -> None:
    assert bar(share).plain == expected


def test_nodes_as_lines() -> None:
    nodes = [NodeView(f"n{n}", f"id{n}", 4) for n in range(10)]
    cells = {(f"id{n}", gpu): CellText(f"a#{n}", "", "") for n in (3, 7) for gpu in range(n - 2)}
    cells = {key: cell for key, cell in cells.items() if key[1] < 4}
    assert nodes_text(nodes, cells, width=60, height=3) == (
        "n7  ████  4 of 4 GPUs  a#7\nn3  █░░░  1 of 4 GPUs  a#3\n"
        "and 8 more nodes: 0 of 32 GPUs used"
    )
    assert "GPU 0" in nodes_text(nodes, cells, width=60, height=60)


def test_events_as_json() -> None:
    found = events_object(look(), 5)
    [one] = found["app0"]
    assert one["app"] == "app0"
    assert one["decision"]["options"][0]["ttft_seconds"] is None
