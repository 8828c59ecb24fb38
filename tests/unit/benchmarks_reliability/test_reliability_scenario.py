"""From what was seen to a scenario's figures, its targets and the table."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.reliability import disturb
from benchmarks.reliability.disturb import Harm
from benchmarks.reliability.haproxy import LogLine
from benchmarks.reliability.outcome import Ending, Request
from benchmarks.reliability.scenario import Result, Scenario, Target, summarize
from benchmarks.reliability.scenarios import SCENARIOS, scenarios_by_name
from benchmarks.reliability.table import BEGIN, END, put_between_marks, reasons, table

HARM = 100.0
ACCEPTED = Request(
    start=95.0, end=105.0, ending=Ending.COMPLETE, wanted_tokens=9, first_byte=95.1,
    first_token=95.2, status=200, tokens=9, done=True,
)  # fmt: skip
CUT = replace(ACCEPTED, end=101.5, ending=Ending.CLOSED, done=False)
ERROR_EVENT = replace(ACCEPTED, end=100.3, openai_error=True)
REFUSED = replace(ACCEPTED, status=503, openai_error=True, retry_after=True)
FAILED = Request(start=101.0, end=101.1, ending=Ending.CLOSED, wanted_tokens=9)
LOST = replace(FAILED, ending=Ending.SILENT)
LINE = LogLine(
    begin=96.0, end=101.0, backend="b", server="a", status=200, state="----", retries=0,
    redispatched=False, path="/v1/chat/completions",
)  # fmt: skip
KILL = Scenario("kill", "kill a part", disturb.kill_engine, cut_seconds=2.0, error_events=True)
DRAIN = Scenario("drain", "drain a part", disturb.drain_node)


def result(scenario: Scenario, *requests: Request, recovered: float | None = 130.0) -> Result:
    return summarize(scenario, requests, Harm(HARM), recovered, ())


def missed(found: Result) -> set[str]:
    return {target.name for target in found.targets if not target.met}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (result(KILL, ACCEPTED, ERROR_EVENT), set()),
        (result(KILL, ACCEPTED, CUT), {"cut without an error event"}),
        (
            result(replace(KILL, cut_seconds=1.0, error_events=False), CUT),
            {"seconds from harm to cut"},
        ),
        (result(KILL, LOST), {"lost"}),
        (result(KILL, FAILED), {"failed"}),
        (result(KILL, REFUSED), {"refused"}),
        (result(replace(KILL, refusals=True), REFUSED), set()),
        (result(KILL, ACCEPTED, recovered=None), {"recovery seconds"}),
        (result(DRAIN, ACCEPTED), set()),
        (result(DRAIN, CUT), {"cut"}),
        (result(replace(DRAIN, ttft_seconds=0.1), ACCEPTED), {"TTFT p50 seconds"}),
        (result(replace(DRAIN, ttft_seconds=0.3), ACCEPTED), set()),
    ],
)
def test_targets(found: Result, expected: set[str]) -> None:
    assert missed(found) == expected
    assert found.met == (not expected)


def test_figures() -> None:
    moved = replace(LINE, retries=1, redispatched=True)
    later = replace(LINE, begin=131.0, end=133.0, server="new")
    found = summarize(
        KILL,
        [ACCEPTED, CUT, ERROR_EVENT, FAILED],
        Harm(HARM),
        130.0,
        [LINE, moved, later, replace(later, status=503, server="other")],
    )
    assert found.open_at_harm == 3
    assert found.cut_delays == pytest.approx((0.3, 1.5))
    assert found.error_events == 1
    assert found.recovery_seconds == 30.0
    assert found.retried == 1
    assert found.answered_afterwards == 1
    assert found.ttft_p50_seconds == pytest.approx(0.2)
    assert found.document()["failed"] == 1


def test_without_a_log_retries_are_unknown_and_not_none() -> None:
    assert result(KILL, ACCEPTED).retried is None
    assert summarize(KILL, [ACCEPTED], Harm(HARM), 130.0, [LINE]).retried == 0


def test_an_unknown_figure_misses_its_target() -> None:
    assert not Target("seconds", None, 5.0).met
    assert Target("seconds", 5.0, 5.0).met


def test_names_are_unique_and_unknown_ones_are_refused() -> None:
    names = [scenario.name for scenario in SCENARIOS]
    assert len(set(names)) == len(names)
    assert [s.name for s in scenarios_by_name(["replica", "engine"])] == ["engine", "replica"]
    assert scenarios_by_name([]) == SCENARIOS
    with pytest.raises(ValueError, match=r"unknown: nodes; there are .*node"):
        scenarios_by_name(["nodes"])


def test_the_table_has_a_row_for_each_scenario_and_says_what_is_missed() -> None:
    results = [result(KILL, ACCEPTED, ERROR_EVENT), result(DRAIN, CUT, FAILED)]
    header, _, kill, drain = table(results).splitlines()
    cells = [cell.strip() for cell in kill.strip("|").split("|")]
    assert len(cells) == header.count("|") - 1
    assert cells[:7] == ["kill a part", "1", "0", "?", "1", "0", "0"]
    assert cells[-1] == "met"
    assert "missed: failed: 1.00 (target <= 0); cut: 1.00 (target <= 0)" in drain
    assert reasons(results).splitlines() == [
        "- kill a part: 1 cut: error event",
        "- drain a part: 1 cut: connection aborted; "
        "1 failed: no byte of an answer: the connection was closed or reset",
    ]


def test_the_document_keeps_what_is_outside_the_marks() -> None:
    document = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    made = put_between_marks(document, "new")
    assert made == f"before\n{BEGIN}\nnew\n{END}\nafter\n"
    assert put_between_marks(made, "new") == made
    with pytest.raises(ValueError, match="has no"):
        put_between_marks("no marks", "new")
