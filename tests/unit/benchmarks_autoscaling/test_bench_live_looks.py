"""The simulator at a cluster's looks: what it knows, when it decides, and looks drawn anew."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from benchmarks.autoscaling.course import (
    Course,
    Wanted,
    delayed,
    from_second,
    judge,
    simulate_counts,
    text_of,
)
from benchmarks.autoscaling.latency import Percentiles
from benchmarks.autoscaling.live_looks import AtLooks, Look, drawn_looks, looks_of, until
from benchmarks.autoscaling.set_times import SetTimes
from rayserve_par.control.decide.scale import ScalePolicy
from rayserve_par.control.decide.settings import Bounds, ScaleSettings
from rayserve_par.control.decide.state import InstanceState, LoadHistory, ModelState, Phase
from rayserve_par.control.live.records import ControlStatus
from rayserve_par.control.simulate.request import Arrival
from tests.unit.control.instances_of_llama import instance_model
from tests.unit.control.live.operated import control_status

TIMES = SetTimes(0.02, 0.001, 1000.0)
# Two requests a second, and from 60 s on eight, which one instance does not carry.
STEP = tuple(Arrival(n / 2, 205, 28) for n in range(120)) + tuple(
    Arrival(60 + n / 8, 205, 28) for n in range(320)
)


def written(seconds: float, age: float | None) -> ControlStatus:
    return control_status(seconds=seconds, load_age_seconds=age, start_seconds=7.0)


def test_looks_are_those_of_the_statuses_since_the_second_of_the_zero() -> None:
    found = looks_of(
        # A status is written a moment after its look, at which whole seconds were known.
        [written(99.0, 1.0), written(100.3, 2.297), written(102.4, None), written(104.5, 1.492)],
        100.25,
    )
    assert found == [Look(pytest.approx(0.3), -2.0, 7.0), Look(pytest.approx(4.5), 3.0, 7.0)]
    assert found[1].age_seconds == pytest.approx(1.5)


def test_arrivals_keep_their_places_in_the_clusters_seconds() -> None:
    assert [one.seconds for one in from_second(STEP[:2], 100.25)] == [0.25, 0.75]


@pytest.mark.parametrize(
    ("seconds", "left"), [(12.0, (1, 2, 3, 4)), (10.0, (1, 2)), (13.0, (1, 2, 3, 4)), (8.0, ())]
)
def test_a_history_until_a_second(seconds: float, left: tuple[int, ...]) -> None:
    known = until(LoadHistory(12.0, 1.0, (1, 2, 3, 4), (5, 6, 7, 8), 10.0, 5.0), seconds)
    assert tuple(known.requests) == left
    assert len(known.prompt_tokens) == len(left)
    assert known.end_seconds == 8.0 + len(left)


def test_it_decides_at_the_looks_and_only_there() -> None:
    looks = [Look(2.3 * n + 1, float(int(2.3 * n)), 2.0) for n in range(40)]
    found, _ = simulate_counts(STEP, TIMES, 3, 2.0, looks)
    assert [one.seconds for one in found[1:]] == pytest.approx([one.seconds for one in looks])


def test_what_a_look_does_not_know_yet_does_not_count() -> None:
    def three_wanted_at(age: float) -> float:
        looks = [Look(float(n), float(n) - age, 2.0) for n in range(2, 100, 2)]
        found, _ = simulate_counts(STEP, TIMES, 3, 2.0, looks)
        return next(one.seconds for one in found if one.wanted == 3)

    # The queues before the engines are seen at once, and alone they want no third instance.
    assert [three_wanted_at(age) for age in (0.0, 2.0, 4.0)] == [62.0, 64.0, 66.0]


def test_the_believed_start_is_the_looks_own() -> None:
    looks = [Look(5.0, 4.0, 3.0), Look(7.0, 6.0, 4.0)]
    policy = AtLooks(ScalePolicy(ScaleSettings(Bounds(1, 2)), instance_model(), 9.0), looks)
    load = LoadHistory(6.5, 1.0, (1.0,) * 6, (205.0,) * 6, 205.0, 28.0)
    state = ModelState(7.0, (InstanceState("a", Phase.READY),), load, start_seconds=60.0)
    with pytest.MonkeyPatch.context() as patch:
        seen: list[ModelState] = []
        decide = ScalePolicy.decide
        patch.setattr(ScalePolicy, "decide", lambda *given: seen.append(given[1]) or decide(*given))
        decision, _ = policy.decide(state, None)
    assert [one.start_seconds for one in seen] == [4.0]
    assert decision.next_look_seconds > 1e6


def test_drawn_looks_are_as_far_apart_and_as_old() -> None:
    seen = [Look(2.1 * n, 2.1 * n - 1 - n % 3, 2.0) for n in range(30)]
    drawn = [drawn_looks(seen, 5.0, 100.0, seed) for seed in range(5)]
    assert len({one[0].seconds for one in drawn}) == 5
    for one in drawn:
        assert 0 <= one[0].seconds < 2.1
        assert one[-1].seconds > 97
        assert one[1].seconds - one[0].seconds == pytest.approx(2.1)
        assert {look.start_seconds for look in one} == {5.0}
        assert all(0.5 <= look.age_seconds <= 3.5 for look in one)
        assert all(look.known_seconds == int(look.known_seconds) for look in one)
    assert drawn_looks(seen, 5.0, 100.0, 3) == drawn[3]


def course(age: float, wanted: tuple[Wanted, ...] = ()) -> Course:
    looks = tuple(Look(2.1 * n + 0.4, float(int(2.1 * n + 0.4 - age)), 2.0) for n in range(46))
    there = Course(3, 500.25, 3.0, TIMES, STEP, looks, wanted, Percentiles(1.0, 2.0, 0.1, 0.2))
    return replace(there, wanted=wanted or judge(replace(there, wanted=STILL)).simulated)


STILL = (Wanted(0.0, 1, 1),)


def test_a_course_that_the_simulator_takes_is_agreed_with() -> None:
    taken = course(1.5)
    found = judge(taken)
    assert found.at_looks == 1.0
    assert found.within > 0.5
    assert "at the cluster's looks 100.0% of 46 decisions" in text_of(taken, found)
    assert Course.from_object(json.loads(json.dumps(taken.as_object()))) == taken


def test_a_course_of_another_load_is_not() -> None:
    found = judge(course(1.5, STILL))
    assert found.at_looks < 0.9
    assert found.within == 0.0


def test_delayed_arrivals_come_in_order_and_never_sooner() -> None:
    found = delayed(STEP, 0.02, 1)
    assert found == sorted(found)
    pairs = list(zip(STEP, found, strict=True))
    assert all(0 <= late.seconds - sent.seconds <= 0.02 for sent, late in pairs)
    assert found != delayed(STEP, 0.02, 2)
