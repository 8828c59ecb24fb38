"""The live controller's counts beside the simulator's: the load, and what counts as the same."""

from __future__ import annotations

import pytest

from benchmarks.autoscaling.course import Wanted, agreement, changes, simulate_counts
from benchmarks.autoscaling.replay_counts import risen
from benchmarks.autoscaling.set_times import SetTimes
from rayserve_par.control.simulate.request import Arrival


def looks(*wanted: tuple[float, int]) -> list[Wanted]:
    return [Wanted(seconds, number, number) for seconds, number in wanted]


@pytest.mark.parametrize(
    ("cluster", "simulator", "share"),
    [
        (looks((0, 1), (2, 1), (4, 2)), looks((0, 1), (2, 1), (4, 2)), 1.0),
        # A change that comes one interval later is the same; two are not.
        (looks((0, 1), (2, 1), (4, 2)), looks((0, 1), (2, 2), (4, 2)), 1.0),
        (looks((0, 1), (2, 1), (4, 1), (6, 2)), looks((0, 1), (2, 2), (4, 2), (6, 2)), 0.75),
        (looks((0, 1)), looks((0, 3), (50, 1)), 0.5),
    ],
)
def test_agreement(cluster: list[Wanted], simulator: list[Wanted], share: float) -> None:
    assert agreement(cluster, simulator, 2.0) == share


def test_changes() -> None:
    assert changes(looks((0, 1), (2, 1), (4, 2), (6, 1))) == looks((0, 1), (4, 2), (6, 1))


def test_the_middle_third_comes_at_a_higher_rate() -> None:
    even = [Arrival(10.0 + one / 10, 5, 5) for one in range(601)]
    moved = risen(even, seconds=30.0, rise=4.0)
    thirds = [sum(10 * n <= one.seconds < 10 * (n + 1) for one in moved) for n in range(3)]
    assert thirds == [100, 400, 100]
    assert moved[-1].seconds == pytest.approx(30.0)
    assert list(moved) == sorted(moved)


def test_the_simulator_scales_with_the_load_of_the_middle_third() -> None:
    arrivals = risen([Arrival(one / 2, 205, 28) for one in range(720)], 240.0, 4.0)
    wanted, found = simulate_counts(arrivals, SetTimes(0.02, 0.001, 1000.0), 3, 8.0)
    assert {one.wanted for one in wanted if one.seconds < 70} == {1}
    assert max(one.wanted for one in wanted) > 1
    assert found.ttft_p50 < 2.0
