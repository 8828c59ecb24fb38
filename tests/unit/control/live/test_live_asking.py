"""What operators ask: the override before, the command, the override after."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayserve_par.control.live.asking import (
    Asked,
    Limits,
    dry_run,
    known_application,
    numbered,
    paused,
    resumed,
    room_note,
)
from rayserve_par.control.live.records import NO_OVERRIDE, Override
from rayserve_par.errors import RefusedError

NOW = 1000.0
LIMITS = Limits(least=1, most=8, gpus_per_instance=2, running=2, room=3)
EVER, HALF_HOUR = Asked(NOW), Asked(NOW, 1800.0, "why")
Change = Callable[[Override], Override]


@pytest.mark.parametrize(
    ("old", "change", "new"),
    [
        (NO_OVERRIDE, lambda o: paused(o, EVER), Override(paused=True)),
        (
            NO_OVERRIDE,
            lambda o: paused(o, HALF_HOUR),
            Override(paused=True, until_seconds=2800.0, note="why"),
        ),
        (Override(instances=3), lambda o: paused(o, EVER), Override(paused=True)),
        (Override(paused=True), lambda o: numbered(o, EVER, "a", 3, LIMITS), Override(instances=3)),
        (
            Override(dry_run=True),
            lambda o: numbered(o, EVER, "a", 3, LIMITS),
            Override(instances=3, dry_run=True),
        ),
        (
            Override(paused=True, until_seconds=NOW + 5, note="old"),
            lambda o: paused(o, EVER),
            Override(paused=True),
        ),
        (
            Override(paused=True, until_seconds=NOW + 5),
            lambda o: dry_run(o, HALF_HOUR, on=True),
            Override(paused=True, dry_run=True, until_seconds=2800.0, note="why"),
        ),
        (
            Override(paused=True, until_seconds=NOW - 5),
            lambda o: dry_run(o, EVER, on=True),
            Override(dry_run=True),
        ),
        (
            Override(paused=True, dry_run=True, until_seconds=NOW + 5, note="n"),
            lambda o: dry_run(o, EVER, on=False),
            Override(paused=True, until_seconds=NOW + 5, note="n"),
        ),
        (Override(dry_run=True, note="n"), lambda o: dry_run(o, EVER, on=False), NO_OVERRIDE),
        (Override(paused=True, dry_run=True), lambda _: resumed(), NO_OVERRIDE),
    ],
)
def test_changes(old: Override, change: Change, new: Override) -> None:
    assert change(old) == new


def test_two_parts_have_one_end() -> None:
    old = Override(paused=True, until_seconds=NOW + 60)
    with pytest.raises(RefusedError, match=r"the pause ends in 60 s.*with --for"):
        dry_run(old, EVER, on=True)


@pytest.mark.parametrize(
    ("instances", "message"),
    [
        (9, r"9 instances are above the most, 8 \(9 x 2 = 18 GPUs against 8 x 2 = 16\)"),
        (0, r"0 instances are below the least, 1 \(0 < 1\)\. Give a number from 1 to 8"),
    ],
)
def test_numbers_outside_the_limits_are_refused(instances: int, message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        numbered(NO_OVERRIDE, EVER, "chat", instances, LIMITS)


@given(st.integers(-5, 20), st.integers(0, 10), st.integers(0, 10))
def test_a_number_is_taken_exactly_within_the_limits(number: int, least: int, more: int) -> None:
    limits = Limits(least, least + more, 1, 0)
    if least <= number <= least + more:
        assert numbered(NO_OVERRIDE, EVER, "a", number, limits).instances == number
    else:
        with pytest.raises(RefusedError):
            numbered(NO_OVERRIDE, EVER, "a", number, limits)


@pytest.mark.parametrize(
    ("instances", "room", "expected"),
    [(5, 3, None), (1, 0, None), (6, None, None), (6, 3, "= 4 more x 2 GPUs = 8 GPUs")],
)
def test_what_the_free_gpus_lack(instances: int, room: int | None, expected: str | None) -> None:
    note = room_note(instances, Limits(1, 8, 2, 2, room))
    assert (note is None) if expected is None else (note is not None and expected in note)


def test_an_unknown_application_is_refused_with_those_there_are() -> None:
    known_application("b", ["a", "b"])
    with pytest.raises(RefusedError, match=r"no application 'c'\. There are: a, b\."):
        known_application("c", ["b", "a"])
    with pytest.raises(RefusedError, match="none at all"):
        known_application("c", [])
