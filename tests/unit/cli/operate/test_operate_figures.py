"""Numbers as text, and durations read and written."""

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayserve_par.cli.operate.duration import parse_duration
from rayserve_par.cli.operate.figures import (
    age_text,
    clock_text,
    count_text,
    duration_text,
    mark_of,
    seconds_text,
)
from rayserve_par.errors import RefusedError


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (None, "-"),
        (float("nan"), "-"),
        (float("inf"), "never"),
        (0.0, "0 ms"),
        (0.0312, "31.2 ms"),
        (1.0, "1 s"),
        (12.345, "12.3 s"),
        (1234.5, "1,234 s"),
    ],
)
def test_seconds(seconds: float | None, expected: str) -> None:
    assert seconds_text(seconds) == expected


@pytest.mark.parametrize(
    ("measured", "sign"),
    [
        (None, "-"), (float("nan"), "-"), (0.0, "ok"), (1.8, "ok"),
        (1.81, "near"), (2.0, "near"), (2.001, "OVER"), (float("inf"), "OVER"),
    ],
)  # fmt: skip
def test_marks(measured: float | None, sign: str) -> None:
    assert mark_of(measured, 2.0).sign == sign


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (-3.0, "0 s"),
        (0.2, "0 s"),
        (45.0, "45 s"),
        (60.0, "1 min"),
        (200.0, "3 min 20 s"),
        (7500.0, "2 h 5 min"),
        (7201.0, "2 h"),
        (273600.0, "3 d 4 h"),
    ],
)
def test_durations_written(seconds: float, expected: str) -> None:
    assert duration_text(seconds) == expected


def test_moments_and_ages() -> None:
    assert clock_text(3661.0, datetime.UTC) == "01:01:01"
    assert age_text(5.0) == "5 s ago"
    assert age_text(-0.5) == "0 s ago"
    assert count_text(1, "node") == "1 node"
    assert count_text(1200, "node") == "1,200 nodes"


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("1.5h", 5400), ("1h30m", 5400)]
)
def test_durations_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "m", "30 m", "-5m", "5m2", "0s", "1w"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(RefusedError, match=r"as in 90s|above 0"):
        parse_duration(text)


@given(st.integers(1, 59), st.integers(1, 23), st.integers(1, 30))
def test_durations_add_up(minutes: int, hours: int, days: int) -> None:
    assert (
        parse_duration(f"{days}d{hours}h{minutes}m") == 86400 * days + 3600 * hours + 60 * minutes
    )
