"""docs/compatibility.md: the matrix, and why each test that did not pass did not."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from tests.compat.results import Outcome, SuiteResult
from tests.compat.suites import Suite, suite_named

_HEAD = """\
# Other people's clients

Written by `make compat` on {day}; do not edit. One server of ours (`tests/compat/serve.yaml`: \
SmolLM2-135M-Instruct and a tiny random model behind one URL, with API keys, on logical CPU GPUs) \
serves every suite; each client runs in an environment of its own, in the version named.

Passed: as the client expects. Refused: the client asks for what this server does not do, and gets \
exactly the error that the suite states. Skipped: not run, for the reason below. Failed: neither.

| suite | client | what is run | passed | failed | refused | skipped | seconds |
|---|---|---|--:|--:|--:|--:|--:|
"""
_KINDS = (
    (Outcome.FAILED, "Failed"),
    (Outcome.REFUSED, "Refused, as stated"),
    (Outcome.SKIPPED, "Skipped"),
)


def page(results: Sequence[SuiteResult], day: date) -> str:
    """The whole page."""
    suites = [_suite(result) for result in results]
    rows = [_row(suite, result) for suite, result in zip(suites, results, strict=True)]
    parts = [_HEAD.format(day=day.isoformat()) + "\n".join([*rows, _sums(results)])]
    for result in results:
        section = _section(result)
        if section:
            parts.append(f"## {result.name}\n\n{section}")
    return "\n\n".join(parts) + "\n"


def _suite(result: SuiteResult) -> Suite:
    suite = suite_named(result.name)
    if suite is None:
        raise ValueError(f"no suite is called {result.name!r}")
    return suite


def _row(suite: Suite, result: SuiteResult) -> str:
    counts = " | ".join(str(result.count(outcome)) for outcome in Outcome)
    what = f"{suite.what} (**{result.broken.split(':')[0]}**)" if result.broken else suite.what
    return f"| {suite.name} | {suite.versions} | {what} | {counts} | {result.seconds:.0f} |"


def _sums(results: Sequence[SuiteResult]) -> str:
    counts = " | ".join(
        str(sum(result.count(outcome) for result in results)) for outcome in Outcome
    )
    return f"| all | | | {counts} | {sum(result.seconds for result in results):.0f} |"


def _section(result: SuiteResult) -> str:
    parts = []
    if result.broken:
        parts.append(f"Broken: {_plain(result.broken)}")
    if result.notes:
        parts.append("\n".join(f"- {_plain(note)}" for note in result.notes))
    for outcome, title in _KINDS:
        rows = _failed(result) if outcome is Outcome.FAILED else _reasons(result, outcome)
        if rows:
            head = "| test | reason |\n|---|---|" if outcome is Outcome.FAILED else _COUNTED
            parts.append("\n".join([f"{title}:\n", head, *rows]))
    return "\n\n".join(parts)


_COUNTED = "| tests | reason |\n|--:|---|"


def _failed(result: SuiteResult) -> list[str]:
    return [
        f"| {_plain(case.name)} | {_plain(case.reason)} |"
        for case in result.cases
        if case.outcome is Outcome.FAILED
    ]


def _reasons(result: SuiteResult, outcome: Outcome) -> list[str]:
    return [f"| {count} | {_plain(reason)} |" for reason, count in result.reasons(outcome)]


def _plain(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
