"""Worth, ways with their costs and exact steps, and what is worse in fact: as tables."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rayserve_par.control.decide.change_way import (
    Step,
    Way,
    cost_gpu_seconds,
    first_step,
    usual_step,
    way_of,
)
from rayserve_par.control.decide.prospect import CountBy, Counting, Prospect, gain
from rayserve_par.control.decide.replan_events import ReplanLog
from rayserve_par.control.decide.replan_state import Action, ReplanDecision, ReplanMemory, Why
from rayserve_par.control.decide.trial import Expectation, Figures, Window, worse
from tests.unit.control.decide.replan_cases import TP1, TP2, TP4, state

FIXED, FIT, RATE = Counting(CountBy.FIXED, number=2), Counting(CountBy.FIT), Counting(CountBy.RATE)
POLICY = Counting(CountBy.POLICY, least=1, most=3)


@pytest.mark.parametrize(
    ("counting", "rate", "instances"),
    [
        (FIXED, None, 2),
        (Counting(CountBy.FIXED, number=9), None, 4),
        (FIT, None, 4),
        (RATE, 12.0, 3),
        (RATE, 1000.0, 4),
        (POLICY, 12.0, 3),
        (POLICY, 1000.0, 3),
        (POLICY, None, 1),
    ],
)
def test_count(counting: Counting, rate: float | None, instances: int) -> None:
    assert TP1.count(counting, rate) == instances


@pytest.mark.parametrize(
    ("present", "candidate", "counting", "rate", "by_latency", "share"),
    [
        # 12 requests/s: 3 x 1 GPU against 2 x 2.
        (TP2, TP1, RATE, 12.0, False, 1 / 3),
        (TP1, TP2, RATE, 12.0, False, -1 / 4),
        # 30 requests/s: 4 x TP1 carry 20, 3 x TP2 all.
        (TP1, TP2, RATE, 30.0, False, 0.5),
        (TP1, TP2, FIXED, None, False, 0.0),
        # All that fit: 4 x 5 against 4 x 10 requests/s.
        (TP1, TP2, FIT, None, False, 1.0),
        (TP1, replace(TP2, room=1), FIT, None, False, -0.5),
        (TP1, replace(TP2, tpot_seconds=0.02), FIXED, None, True, 1.0),
        (replace(TP1, excess=1.4), TP2, FIXED, None, False, 0.4),
        (TP1, replace(TP2, excess=1.1), FIT, None, False, -1.0),
    ],
)
def test_gain(
    present: Prospect,
    candidate: Prospect,
    counting: Counting,
    rate: float | None,
    by_latency: bool,
    share: float,
) -> None:
    found = gain(present, candidate, counting=counting, rate=rate, by_latency=by_latency)
    assert found == pytest.approx(share)


@pytest.mark.parametrize(
    ("running", "candidate", "wanted", "rate", "way", "step"),
    [
        # Serve's own numbers: instances, max_surge_percent, rolling_update_percentage.
        (2, TP2, 2, None, Way.SURGE, Step(2, 100, 1e-6)),
        (2, replace(TP2, beside=1), 2, None, Way.SURGE, Step(2, 50, 1e-6)),
        (1, TP2, 2, None, Way.SURGE, Step(2, 50, 1e-6)),
        # One fits beside and two are wanted more: the number that runs first.
        (1, replace(TP2, beside=1), 3, None, Way.SURGE, Step(1, 100, 1e-6)),
        (4, TP2, 2, None, Way.SURGE, Step(2, 100, 1e-6)),
        # Serve would stop two of four at once, and two do not carry 15 requests/s.
        (4, TP2, 2, 15.0, Way.ONE_BY_ONE, Step(3, 33, 1e-6)),
        (2, replace(TP2, beside=0), 4, None, Way.ONE_BY_ONE, Step(1, 100, 1e-6)),
        (2, replace(TP2, beside=0), 2, 9.0, Way.ALL_AT_ONCE, Step(2, 0, 1.0)),
        (2, replace(TP2, beside=0, in_place=False), 1, None, Way.ALL_AT_ONCE, Step(1, 0, 1.0)),
        (1, replace(TP2, beside=0), 1, None, Way.ALL_AT_ONCE, Step(1, 0, 1.0)),
        (0, TP2, 3, None, Way.ALL_AT_ONCE, Step(3, 0, 1.0)),
    ],
)
def test_ways_and_steps(
    running: int, candidate: Prospect, wanted: int, rate: float | None, way: Way, step: Step
) -> None:
    found = way_of(TP1, running, candidate, wanted, rate)
    assert found is way
    assert first_step(found, running, candidate, wanted, sets_number=True) == step


def test_one_by_one_keeps_the_number_that_a_policy_sets() -> None:
    step = first_step(Way.ONE_BY_ONE, 3, replace(TP2, beside=0), 3, sets_number=False)
    assert step == Step(3, 0, 1e-6)


@pytest.mark.parametrize(
    ("way", "seconds"),
    [(Way.SURGE, 60 * 2 * 4), (Way.ONE_BY_ONE, 60 * 3 * 2), (Way.ALL_AT_ONCE, 60 * 3 * 2)],
)
def test_cost(way: Way, seconds: float) -> None:
    assert cost_gpu_seconds(way, TP2, 3, TP4, 2, 60.0) == seconds
    assert cost_gpu_seconds(Way.ALL_AT_ONCE, None, 0, TP4, 2, 60.0) == 0


def test_a_number_alone_is_set_with_serves_own_way_of_replacing() -> None:
    assert usual_step(3) == Step(3, 0, 0.2)


@pytest.mark.parametrize(
    ("ttft", "tpot", "words"),
    [
        (0.30, 0.030, ""),
        (0.60, 0.045, ""),
        (0.30, 0.051, "TPOT 51 ms breaks 50 ms, was 30"),
        (0.70, 0.030, "TTFT 700 ms > 1.25 x max(300 ms before, 500 ms predicted)"),
        (2.10, 0.060, "TTFT 2100 ms breaks 2000 ms, was 300; TPOT 60 ms breaks 50 ms, was 30"),
    ],
)
def test_worse(ttft: float, tpot: float, words: str) -> None:
    before = Window(0.0).after(1.0, Figures(8.0, 0.3, 0.030))
    after = Window(10.0).after(11.0, Figures(8.0, ttft, tpot))
    assert worse(before, after, Expectation(0.5, 0.04, 2.0, 0.05), 1.25) == words


def test_a_window_is_a_decayed_mean_of_looks_in_which_requests_ended() -> None:
    window = Window(0.0).after(0.0, Figures(4.0, 0.2, 0.02)).after(1.0, Figures(1.0, None, None))
    assert (window.requests_per_second, window.seconds) == (4.0, 0.0)
    window = window.after(60.0, Figures(8.0, 0.4, 0.04))
    old = 0.36787944
    assert window.tpot_seconds == pytest.approx((0.02 * old + 0.04) / (1 + old))
    assert window.seconds == 60.0


@pytest.mark.parametrize(("one", "other", "alike"), [(8, 6, True), (6, 8, True), (8, 5, False)])
def test_comparable_load(one: float, other: float, alike: bool) -> None:
    windows = [Window(0.0).after(1.0, Figures(rate, 0.3, 0.03)) for rate in (one, other)]
    assert windows[0].comparable(windows[1]) is alike
    assert not Window(0.0).comparable(windows[0])


def test_the_log_holds_each_decision_once_and_later_what_came_true() -> None:
    seen = state(TP1, TP2)
    change = ReplanDecision(
        Action.CHANGE, Why.BETTER, "better", choice=TP2.choice(2), predicted=TP2
    )
    memory = ReplanMemory()
    log = ReplanLog().after("a", seen, memory, change, carried_out=True)
    log = log.after("a", replace(seen, now_seconds=1005.0), memory, change, carried_out=True)
    assert [one.number for one in log.events] == [1]
    assert log.events[0].came_true is None
    window = Window(1060.0).after(1120.0, Figures(7.0, 0.4, 0.03))
    keep = ReplanDecision(Action.KEEP, Why.BEST, "")
    after = replace(seen, present=TP2, now_seconds=1120.0)
    log = log.after("a", after, replace(memory, window=window), keep, carried_out=False)
    came = log.events[0].came_true
    assert came is not None
    assert (came.ready, came.requests_per_second, came.tpot_seconds) == (2, 7.0, 0.03)
    assert [one.number for one in log.events] == [1, 2]


def test_the_log_is_bounded_and_counts_on() -> None:
    log = ReplanLog()
    for number in range(250):
        why = Why.BEST if number % 2 else Why.NO_GAIN
        decision = ReplanDecision(Action.KEEP, why, "")
        log = log.after("a", state(TP1), ReplanMemory(), decision, carried_out=False)
    assert (len(log.events), log.counted, log.events[-1].number) == (100, 250, 250)
    waiting = ReplanDecision(Action.KEEP, Why.ROLLING, "1 of 2 serve")
    assert log.after("a", state(TP1), ReplanMemory(), waiting, carried_out=False) == log
