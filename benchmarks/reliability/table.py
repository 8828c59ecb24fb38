"""The results as a Markdown table, and put into a document between two marks."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.reliability.outcome import Kind
from benchmarks.reliability.scenario import Result

BEGIN = "<!-- made by `make reliability`: begin -->"
END = "<!-- made by `make reliability`: end -->"
_HEADER = (
    "scenario", "accepted", "refused", "retried", "cut", "failed", "lost",
    "harm to cut, s", "all serve again, s", "no answer begins for, s", "TTFT p50, s", "targets",
)  # fmt: skip


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _row(result: Result) -> tuple[str, ...]:
    counts = result.tally
    delay = _number(max(result.cut_delays)) if result.cut_delays else "-"
    missed = [str(target) for target in result.targets if not target.met]
    retried = "?" if result.retried is None else str(result.retried)
    return (
        result.scenario.title,
        str(counts[Kind.ACCEPTED]),
        str(counts[Kind.REFUSED]),
        retried,
        *(str(counts[kind]) for kind in (Kind.CUT, Kind.FAILED, Kind.LOST)),
        delay,
        _number(result.recovery_seconds),
        _number(result.longest_silence_seconds),
        _number(result.ttft_p50_seconds),
        "met" if not missed else "missed: " + "; ".join(missed),
    )


def table(results: Sequence[Result]) -> str:
    """One row for each scenario."""
    lines = [_HEADER, ("---",) + ("---:",) * (len(_HEADER) - 2) + ("---",)]
    lines += [_row(result) for result in results]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def reasons(results: Sequence[Result]) -> str:
    """Why requests were not accepted, one line for each scenario that had such."""
    return "\n".join(
        f"- {result.scenario.title}: "
        + "; ".join(f"{count} {why}" for why, count in sorted(result.tally.reasons.items()))
        for result in results
        if result.tally.reasons
    )


def put_between_marks(document: str, text: str, begin: str = BEGIN, end: str = END) -> str:
    """`document` with `text` between the two marks.

    Raises:
        ValueError: it has not each mark once, in order.
    """
    before, found_begin, rest = document.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found_begin or not found_end:
        raise ValueError(f"the document has no {begin} followed by {end}")
    return f"{before}{begin}\n{text}\n{end}{after}"
