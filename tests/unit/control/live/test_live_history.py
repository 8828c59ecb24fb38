"""Arrivals by the second from the instances' sums: late, missing, new, returning, wrong clocks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayserve_par.control.live.history import Arrivals, ArrivalSeries

NOW = 1000.0


def sums(*pairs: tuple[int, float], tokens: float = 10.0) -> list[Arrivals]:
    return [Arrivals(second, count, count * tokens) for second, count in pairs]


def series(begin: float = 900.0, seconds: int = 600) -> ArrivalSeries:
    found = ArrivalSeries(seconds)
    found.see(begin)
    return found


def bins(found: ArrivalSeries, now: float = NOW, *names: str) -> dict[int, float]:
    history = found.history(now, names, 10.0, 5.0)
    begin = int(history.end_seconds) - len(history.requests)
    return {begin + n: one for n, one in enumerate(history.requests) if one}


@pytest.mark.parametrize(
    ("reports", "expected"),
    [
        # sums before second s, so what came between belongs to the seconds before it
        ([(990, 5), (991, 7), (992, 8)], {990: 2, 991: 1}),
        # the first report is where counting starts
        ([(990, 500)], {}),
        # nothing for three seconds, then all of it: spread evenly
        ([(990, 5), (993, 11)], {990: 2, 991: 2, 992: 2}),
        # the same reports again, and an old one late
        ([(990, 5), (991, 7), (990, 5), (991, 7), (992, 8)], {990: 2, 991: 1}),
        # a clock an hour ahead, and one that was set back by an hour: into the present second
        ([(990, 5), (4590, 9)], {999: 4}),
        ([(990, 5), (-2610, 9)], {999: 4}),
        # a sum that is smaller is an old report
        ([(990, 5), (992, 3), (993, 6)], {990: pytest.approx(1 / 3)} | dict.fromkeys(
            (991, 992), pytest.approx(1 / 3)
        )),
    ],
)  # fmt: skip
def test_sums_become_seconds(reports: list[tuple[int, float]], expected: dict[int, float]) -> None:
    found = series()
    found.add("a", sums(*reports), NOW, young=False)
    assert bins(found) == expected


def test_reports_that_overlap_count_once() -> None:
    found = series()
    points = sums((990, 0), (991, 3), (992, 5), (993, 5), (994, 9))
    for upto in range(1, len(points) + 1):
        found.add("a", points[max(0, upto - 3) : upto], NOW, young=False)
    assert bins(found) == {990: 3, 991: 2, 993: 4}


def test_an_instance_that_comes_later_counts_from_its_first_request() -> None:
    found = series()
    found.add("b", sums((992, 4)), 993.0, young=True)
    assert sum(bins(found).values()) == 4


def test_an_instance_that_comes_back_counts_what_came_meanwhile_once() -> None:
    found = series()
    found.add("a", sums((990, 5)), 990.0, young=True)
    found.add("a", sums((995, 8)), 995.0, young=True)
    assert sum(bins(found).values()) == pytest.approx(8)


def test_the_last_bins_are_whole() -> None:
    found = series()
    found.add("a", sums((990, 0), (999, 9)), NOW, young=False)
    found.add("b", sums((990, 0), (997, 7)), NOW, young=False)
    assert found.history(NOW, ("a", "b"), 1, 1).end_seconds == 997
    assert found.history(NOW, ("a",), 1, 1).end_seconds == 999
    # who reports late does not hold the others back for long
    assert found.history(NOW + 60, ("a", "b"), 1, 1).end_seconds == NOW + 60 - 6


def test_it_reaches_back_to_the_first_look_and_no_further_than_asked() -> None:
    found = series(begin=980.0, seconds=50)
    assert len(found.history(NOW, (), 1, 1).requests) == 20
    assert len(found.history(NOW + 100, (), 1, 1).requests) == 50


def test_what_is_known_between_two_looks_is_spread_over_them() -> None:
    found = series()
    found.add_evenly(4.0, 40.0, 996.0, 998.0)
    assert bins(found) == {996: 2, 997: 2}


@given(
    counts=st.lists(st.integers(0, 5), min_size=1, max_size=40),
    seen=st.lists(st.booleans(), min_size=40, max_size=40),
    overlap=st.integers(1, 6),
)
def test_nothing_is_lost_or_counted_twice(
    counts: list[int], seen: list[bool], overlap: int
) -> None:
    """Whatever reports are lost, the sum between the first and the last one seen is right."""
    total, points = 0, []
    for index, count in enumerate(counts):
        points.append(Arrivals(960 + index, float(total), float(10 * total)))
        total += count
    found, told = series(), []
    for index in range(len(points)):
        if seen[index] or index == 0:
            batch = points[max(0, index - overlap + 1) : index + 1]
            told += batch
            found.add("a", batch, NOW, young=False)
    history = found.history(NOW + 1, (), 1, 1)
    most = max(point.requests for point in told)
    assert sum(history.requests) == pytest.approx(most - points[0].requests)
    assert sum(history.prompt_tokens) == pytest.approx(10 * (most - points[0].requests))
