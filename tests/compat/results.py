"""What a suite found, read from the JUnit file that pytest and `node --test` write."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

_LONGEST_REASON = 300


class Outcome(StrEnum):
    """Outcome of one test."""

    PASSED = "passed"
    FAILED = "failed"
    REFUSED = "refused"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Case:
    """One test; `reason` says why it did not pass, and is empty where it did."""

    name: str
    outcome: Outcome
    reason: str = ""


@dataclass(frozen=True, slots=True)
class SuiteResult:
    """One suite: its tests, or in `broken` why there are none (or not all)."""

    name: str
    cases: tuple[Case, ...] = ()
    seconds: float = 0.0
    broken: str = ""
    notes: tuple[str, ...] = ()

    def count(self, outcome: Outcome) -> int:
        """Tests of this outcome."""
        return sum(case.outcome is outcome for case in self.cases)

    def reasons(self, outcome: Outcome) -> list[tuple[str, int]]:
        """Reasons of this outcome and how many tests have each, most first."""
        return Counter(case.reason for case in self.cases if case.outcome is outcome).most_common()

    @property
    def as_expected(self) -> bool:
        """Whether it ran to its end, passed something and failed nothing."""
        passed = self.count(Outcome.PASSED)
        return not self.broken and passed > 0 and not self.count(Outcome.FAILED)


def read_junit(file: Path) -> tuple[Case, ...]:
    """The tests of a JUnit file; none where it is missing or cut short."""
    try:
        root = ET.parse(file).getroot()
    except (OSError, ET.ParseError):
        return ()
    return tuple(_case(element) for element in root.iter("testcase"))


def read_notes(file: Path) -> tuple[str, ...]:
    """The `compat-note` properties of a JUnit file: figures that a suite wants on the page."""
    try:
        root = ET.parse(file).getroot()
    except (OSError, ET.ParseError):
        return ()
    notes = (item for item in root.iter("property") if item.get("name") == "compat-note")
    return tuple(item.get("value", "") for item in notes)


def _case(element: ET.Element) -> Case:
    place = (element.get("classname") or "").rsplit(".", 1)[-1]
    name = " ".join(filter(None, (place if place != "test" else "", element.get("name", ""))))
    for tag in ("failure", "error"):
        found = element.find(tag)
        if found is not None:
            return Case(name, Outcome.FAILED, _reason(found))
    skipped = element.find("skipped")
    if skipped is None:
        return Case(name, Outcome.PASSED)
    expected = skipped.get("type") == "pytest.xfail"
    return Case(name, Outcome.REFUSED if expected else Outcome.SKIPPED, _reason(skipped))


def _reason(element: ET.Element) -> str:
    text = element.get("message") or element.text or "no reason given"
    return _one_line(text.removeprefix("Skipped: "))


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_REASON else f"{line[:_LONGEST_REASON]}..."


def total(results: Iterable[SuiteResult], outcome: Outcome) -> int:
    """Tests of this outcome over all suites."""
    return sum(result.count(outcome) for result in results)
