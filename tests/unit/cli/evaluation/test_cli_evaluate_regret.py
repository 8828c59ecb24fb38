"""The cost of choosing among measured layouts by predictions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayserve_par.cli.evaluation.regret import Case, Point, cases, speed_per_gpu
from rayserve_par.cli.evaluation.statistics import quantile, relative_error, spread_of_errors
from rayserve_par.planning import Layout

TP1, TP2, TP4 = Layout(tp=1), Layout(tp=2), Layout(tp=4)


def point(
    layout: Layout,
    tpot_ms: float,
    speed: float,
    predicted_tpot_ms: float,
    predicted_speed: float,
    group: str = "g",
) -> Point:
    return Point((group,), layout, tpot_ms, speed, predicted_tpot_ms, predicted_speed)


def at(limit_ms: float, points: list[Point]) -> Case:
    (found,) = [case for case in cases(points) if case.limit_ms == limit_ms]
    return found


def test_speed_per_gpu() -> None:
    # 10 streams, each 1 s to the first token and 0.1 s for each of 90 more: 10 x 91 / 10 s / 7.
    speed = speed_per_gpu(streams=10, osl=91, ttft_ms=1000, tpot_ms=100, gpus=7)
    assert speed == pytest.approx(13.0)


def test_the_right_choice_has_no_regret() -> None:
    points = [point(TP1, 25, 100, 25, 90), point(TP2, 15, 80, 15, 70)]
    assert at(30, points).regret == 0
    # Below 20 ms only TP2 is left, and is predicted to be.
    assert at(20, points).ours == TP2
    assert at(20, points).regret == 0


def test_the_wrong_choice_costs_the_difference() -> None:
    points = [point(TP1, 25, 100, 25, 60), point(TP2, 15, 80, 15, 70)]
    case = at(30, points)
    assert (case.ours, case.best) == (TP2, TP1)
    assert case.regret == pytest.approx(0.2)


def test_a_layout_that_misses_the_limit_costs_everything() -> None:
    points = [point(TP1, 25, 100, 9, 60), point(TP2, 9, 80, 12, 70)]
    assert at(10, points).ours == TP1
    assert at(10, points).regret == 1


def test_another_row_of_the_chosen_layout_counts() -> None:
    points = [
        point(TP1, 45, 200, 19, 90),  # the choice was made for this row, which misses 20 ms
        point(TP1, 18, 70, 18, 50),
        point(TP2, 15, 100, 15, 80),
    ]
    assert at(20, points).regret == pytest.approx(0.3)


def test_where_no_row_is_predicted_under_the_limit_the_fastest_is_taken() -> None:
    points = [point(TP1, 9, 50, 14, 60), point(TP2, 8, 40, 12, 30)]
    assert at(10, points).ours == TP2
    assert at(10, points).regret == pytest.approx(0.2)


def test_groups_without_a_choice_and_limits_that_nothing_meets_are_no_cases() -> None:
    alone = [point(TP1, 5, 1, 5, 1, "alone"), point(TP1, 6, 2, 6, 2, "alone")]
    pair = [point(TP1, 40, 1, 40, 1, "pair"), point(TP2, 40, 2, 40, 2, "pair")]
    assert [case.limit_ms for case in cases(alone + pair)] == [50, 100]


_ms = st.floats(1, 200)
_speeds = st.floats(1, 1e4)
_points = st.lists(
    st.builds(point, st.sampled_from([TP1, TP2, TP4]), _ms, _speeds, _ms, _speeds), min_size=2
)


@given(_points)
def test_regret_is_a_share(points: list[Point]) -> None:
    assert all(0 <= case.regret <= 1 for case in cases(points))


@given(_points)
def test_perfect_predictions_have_no_regret(points: list[Point]) -> None:
    known = [point(p.layout, p.tpot_ms, p.speed, p.tpot_ms, p.speed) for p in points]
    assert all(case.regret == 0 for case in cases(known))


def test_errors() -> None:
    assert relative_error(11, 10) == pytest.approx(0.1)
    assert relative_error(9, 10) == pytest.approx(0.1)
    for unmeasured in (None, 0, -1, "fast", True, float("nan"), float("inf"), 10**400):
        assert relative_error(1, unmeasured) is None
    assert quantile([3, 1, 2], 0.5) == 2
    assert quantile([0, 10], 0.9) == pytest.approx(9)
    assert spread_of_errors([None]) == {"n": 0, "median": None, "p90": None, "max": None}
    assert spread_of_errors([0.1, None, 0.3])["median"] == pytest.approx(0.2)
