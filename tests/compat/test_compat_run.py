"""The runner itself: what it reads, adapts, writes and ends. No server, no client."""

from __future__ import annotations

import sys
import time
from datetime import date
from pathlib import Path

import psutil
import pytest

from tests.compat.page import page
from tests.compat.processes import run_to_end
from tests.compat.results import Case, Outcome, SuiteResult, read_junit, read_notes
from tests.compat.sdk_tests import ADAPTATIONS, adapted
from tests.compat.suites import SUITES, Suite, suite_named
from tests.e2e.waiting import wait_until

PYTEST_REPORT = """\
<?xml version="1.0" encoding="utf-8"?>
<testsuites><testsuite name="pytest" tests="5">
<properties><property name="compat-note" value="12 requests"/></properties>
<testcase classname="tests.check_chat" name="test_answer" time="0.1"/>
<testcase classname="tests.check_chat.TestX" name="test_wrong" time="0.1">
<failure message="AssertionError:&#10;  assert 1 == 2">trace</failure></testcase>
<testcase classname="tests.check_chat" name="test_setup"><error message="no fixture"/></testcase>
<testcase classname="tests.check_chat" name="test_stored">
<skipped type="pytest.xfail" message="nothing is stored"/></testcase>
<testcase classname="tests.check_chat" name="test_image">
<skipped type="pytest.skip" message="no images">place</skipped></testcase>
</testsuite></testsuites>
"""
NODE_REPORT = """\
<?xml version="1.0" encoding="utf-8"?>
<testsuites><testsuite name="chat"><testcase name="generateText" classname="test"/>
<testcase name="tools" classname="test"><failure message="no call">[Error]</failure></testcase>
</testsuite></testsuites>
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            PYTEST_REPORT,
            (
                Case("check_chat test_answer", Outcome.PASSED),
                Case("TestX test_wrong", Outcome.FAILED, "AssertionError: assert 1 == 2"),
                Case("check_chat test_setup", Outcome.FAILED, "no fixture"),
                Case("check_chat test_stored", Outcome.REFUSED, "nothing is stored"),
                Case("check_chat test_image", Outcome.SKIPPED, "no images"),
            ),
        ),
        (
            NODE_REPORT,
            (
                Case("generateText", Outcome.PASSED),
                Case("tools", Outcome.FAILED, "no call"),
            ),
        ),
        (PYTEST_REPORT[:300], ()),
        ("", ()),
    ],
    ids=["pytest", "node", "cut short", "empty"],
)
def test_reports_are_read(tmp_path: Path, text: str, expected: tuple[Case, ...]) -> None:
    file = tmp_path / "report.xml"
    file.write_text(text, encoding="utf-8")
    assert read_junit(file) == expected


def test_a_missing_report_has_no_tests(tmp_path: Path) -> None:
    assert read_junit(tmp_path / "none.xml") == ()
    assert read_notes(tmp_path / "none.xml") == ()


def test_notes_are_read(tmp_path: Path) -> None:
    file = tmp_path / "report.xml"
    file.write_text(PYTEST_REPORT, encoding="utf-8")
    assert read_notes(file) == ("12 requests",)


PASSED, FAILED = Case("a", Outcome.PASSED), Case("b", Outcome.FAILED, "wrong | text")
REFUSED = Case("c", Outcome.REFUSED, "nothing is stored")


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (SuiteResult("abuse", (PASSED, REFUSED)), True),
        (SuiteResult("abuse", (PASSED, FAILED)), False),
        (SuiteResult("abuse", (REFUSED,)), False),
        (SuiteResult("abuse"), False),
        (SuiteResult("abuse", (PASSED,), broken="stopped after 10 s"), False),
    ],
)
def test_only_a_whole_run_without_failures_is_as_expected(
    result: SuiteResult, expected: bool
) -> None:
    assert result.as_expected is expected


def test_page_has_counts_reasons_and_what_broke() -> None:
    results = [
        SuiteResult("abuse", (PASSED, PASSED, FAILED, REFUSED, REFUSED), 12.4),
        SuiteResult("guidellm", broken="not installed: no wheel of it"),
    ]
    text = page(results, date(2026, 1, 2))
    abuse = next(line for line in text.splitlines() if line.startswith("| abuse |"))
    assert abuse.endswith("| 2 | 1 | 2 | 0 | 12 |")
    assert "| all | | | 2 | 1 | 2 | 0 | 12 |" in text
    assert "| 2 | nothing is stored |" in text
    assert "wrong \\| text" in text
    assert "(**not installed**)" in text
    assert "no wheel of it" in text
    assert "make compat" in text


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_suites_have_tests_and_pins(suite: Suite) -> None:
    assert suite_named(suite.name) is suite
    assert list(suite.path.glob("check_*")) or suite.sdist
    for line in suite.pins_file.read_text(encoding="utf-8").splitlines():
        assert not line or line.startswith("#") or "==" in line
    assert not suite.sdist or suite.sdist.split("==")[1] in suite.versions


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('create(model="gpt-6-astra")', 'create(model="ours")'),
        (
            'client.models.retrieve(\n            "gpt-4o-mini",\n        )',
            'client.models.retrieve(\n            "ours",\n        )',
        ),
        ("client.responses.create()", 'client.responses.create(input="string")'),
        (
            "responses.with_raw_response.create(\n            stream=True,\n        )",
            "responses.with_raw_response.create(\n"
            '            input="string",\n            stream=True,\n        )',
        ),
        (
            'create(\n            stream=False,\n            stream_options={"a": 1},\n        )',
            "create(\n            stream=False,\n        )",
        ),
        (
            'create(\n            prompt={\n                "id": "id",\n'
            '                "v": {"foo": "string"},\n            },\n            user="u",\n',
            'create(\n            user="u",\n',
        ),
        ("max_tokens=0, max_completion_tokens=0", "max_tokens=1, max_completion_tokens=1"),
        ('create(prompt="This is a test.")', 'create(prompt="This is a test.")'),
    ],
)
def test_sdk_tests_are_adapted(source: str, expected: str) -> None:
    assert adapted(source, "ours") == expected
    assert adapted(expected, "ours") == expected


def test_each_adaptation_says_why() -> None:
    assert all(change.why for change in ADAPTATIONS)


def test_a_command_past_its_limit_ends_with_its_children(tmp_path: Path) -> None:
    program = (
        "import subprocess, sys, time;"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
        "print(child.pid, flush=True); time.sleep(60)"
    )
    log = tmp_path / "log"
    started = time.monotonic()
    assert run_to_end([sys.executable, "-c", program], {}, tmp_path, log, 2) is None
    assert time.monotonic() - started < 30
    child = int(log.read_text())
    wait_until(lambda: _has_ended(child), 10)


def _has_ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize("status", [0, 3])
def test_a_command_gives_its_status(tmp_path: Path, status: int) -> None:
    command = [sys.executable, "-c", f"raise SystemExit({status})"]
    assert run_to_end(command, {}, tmp_path, tmp_path / "log", 60) == status
