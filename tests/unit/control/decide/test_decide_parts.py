"""The parts of the policy by themselves, from the fluid queue to the event log."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayserve_par.control.decide.baselines import AverageRate, OngoingRequests, Static
from rayserve_par.control.decide.correction import (
    HALF_LIFE_SECONDS,
    NO_CORRECTION,
    Correction,
    predicted_seconds,
)
from rayserve_par.control.decide.decision import Decision, Reason
from rayserve_par.control.decide.demand import Demand, demand_of
from rayserve_par.control.decide.events import EventLog
from rayserve_par.control.decide.feasible import LeastTimes, check_target
from rayserve_par.control.decide.fluid import (
    least_instances,
    least_with_margin,
    missed_share,
    wait_at,
)
from rayserve_par.control.decide.scale import ScalePolicy
from rayserve_par.control.decide.settings import Bounds, ScaleSettings, bounds_within
from rayserve_par.control.decide.settled import NO_FLOOR
from rayserve_par.control.decide.state import LoadHistory, Measured, Steps
from rayserve_par.errors import RefusedError
from tests.unit.control.decide.states import FULL, ISL, OSL, flat, history, ramp, state, step
from tests.unit.control.instances_of_llama import instance_model


@pytest.mark.parametrize(
    ("work", "slack", "may_miss", "wanted"),
    [
        ([1.0] * 60, 1.0, 0.0, 1),
        ([1.1] * 60, 1.0, 0.0, 2),
        ([0.0] * 60, 1.0, 0.0, 0),
        # 10 s of work in one second: n and n x slack of it at once
        ([0.0] * 30 + [10.0] + [0.0] * 29, 1.0, 0.0, 5),
        ([0.0] * 30 + [10.0] + [0.0] * 29, 4.0, 0.0, 2),
        # the burst is all of the work, so it may not be missed
        ([1.0] * 30 + [10.0] + [1.0] * 29, 1.0, 0.5, 2),
    ],
)
def test_least_instances(work: list[float], slack: float, may_miss: float, wanted: int) -> None:
    assert least_instances(work, 1.0, slack, may_miss, 1.0) == wanted


@given(st.lists(st.floats(0, 50), min_size=1, max_size=80), st.floats(0.1, 3), st.floats(0, 0.2))
def test_the_least_holds_and_one_less_does_not(
    work: list[float], slack: float, may_miss: float
) -> None:
    found = least_instances(work, 1.0, slack, may_miss, 1.0)
    if found:
        assert missed_share(work, found, 1.0, slack) <= may_miss
    if found > 1:
        assert missed_share(work, found - 1, 1.0, slack) > may_miss


@given(
    st.lists(st.floats(0, 50), min_size=1, max_size=80),
    st.floats(0, 0.5),
    st.floats(0.1, 3),
    st.floats(0, 0.2),
)
def test_with_margin_is_the_least_for_more_work(
    work: list[float], margin: float, slack: float, may_miss: float
) -> None:
    flow = (1.0, slack, may_miss, 1.0)
    least = least_instances(work, *flow)
    raised = [one * (1 + margin) for one in work]
    assert least_with_margin(work, margin, least, *flow) == least_instances(raised, *flow)


def test_wait_is_the_backlog_over_the_instances() -> None:
    assert wait_at([0.0, 10.0, 0.0], 2.0, 1.0, 0.0) == pytest.approx(4.0)
    assert wait_at([1.0] * 99 + [10.0], 2.0, 1.0, 0.2) == 0.0


def test_work_is_load() -> None:
    capacity = instance_model().capacity(ISL, OSL)
    demand = demand_of(history(flat(2.5)), capacity)
    assert sum(demand.work) / 600 == pytest.approx(2.5, rel=0.01)
    coarse = LoadHistory(1000.0, 10.0, (25 * FULL,) * 6, (25 * FULL * ISL,) * 6, ISL, OSL)
    spread = demand_of(coarse, capacity)
    assert len(spread.work) == 60
    assert sum(spread.work) / 60 == pytest.approx(2.5, rel=0.01)


def test_a_step_is_seen_and_even_load_is_not_exceeded() -> None:
    capacity = instance_model().capacity(ISL, OSL)
    assert demand_of(history(flat(3.0)), capacity).sustained(2.0) < 3.05
    assert demand_of(history(step(3.0, 15.0, 2)), capacity).sustained(2.0) > 11.0


@pytest.mark.parametrize(
    ("loads", "slope"), [(flat(4.0), 0.0), (ramp(2.0, 12.0), 1 / 60), (ramp(12.0, 2.0), -1 / 60)]
)
def test_trend(loads: list[float], slope: float) -> None:
    demand = demand_of(history(loads), instance_model().capacity(ISL, OSL))
    assert demand.slope(0.8) == pytest.approx(slope, rel=0.03, abs=1e-9)


def test_bursts_are_bursty_and_a_step_is_not() -> None:
    each = 0.055
    on_off = Demand(tuple(20.0 if n // 10 % 2 else 0.5 for n in range(600)), each)
    one_step = Demand(tuple(20.0 if n > 300 else 0.5 for n in range(600)), each)
    assert on_off.burstiness(600) > 50
    assert one_step.burstiness(600) < 1


@pytest.mark.parametrize(
    ("load", "burstiness", "seconds"),
    [
        # 2 x 0.05 / (0.1 ^ 2 x load) by chance alone, as much longer as load is bursty
        (2.0, 1.0, 5.0),
        (20.0, 1.0, 0.5),
        (2.0, 20.0, 100.0),
        (2.0, 200.0, 1000.0),
        (0.0, 1.0, 0.0),
    ],
)
def test_few_large_bursts_take_long_to_know(load: float, burstiness: float, seconds: float) -> None:
    demand = Demand((load,) * 600, 0.05)
    assert demand.known_seconds(burstiness, 0.1) == pytest.approx(seconds)


def test_correction_learns_is_bounded_and_forgets() -> None:
    slow = Measured(decode_steps=Steps(count=4000, seconds=8.0))
    found = NO_CORRECTION
    for second in range(20):
        found = found.after(float(second), slow, 5.0)
    assert found.factor == pytest.approx(1.6, rel=0.01)
    for second in range(20, 60):
        found = found.after(float(second), slow, 0.5)
    assert found.factor == pytest.approx(2.0)
    later = found.after(59.0 + HALF_LIFE_SECONDS, Measured(), 0.0)
    assert later.factor == pytest.approx(2**0.5)
    assert Correction(0.1).applied(1.15) == 1.0
    assert Correction(0.2).applied(1.15) == pytest.approx(Correction(0.2).factor)


def test_predicted_seconds_are_the_models_own() -> None:
    model = instance_model()
    steps = Steps(count=10, seconds=0.1, decodes=80, context_tokens=160_000)
    assert predicted_seconds(Measured(decode_steps=steps), model) == pytest.approx(
        10 * model.step_seconds(0, 8, 2000)
    )


def test_a_floor_lapses_with_time_or_load() -> None:
    floor = NO_FLOOR.raised(5, 4.0, 100.0)
    assert floor.now(699.0, 4.0, 0.01, 600.0).instances == 5
    assert floor.now(700.0, 4.0, 0.01, 600.0) is NO_FLOOR
    assert floor.now(200.0, 3.3, 0.01, 600.0) is NO_FLOOR
    assert floor.now(200.0, 3.3, 0.1, 600.0).instances == 5


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Bounds(5, 2), "min 5 and max 2"),
        (lambda: Bounds(0, 0), "max of at least 1"),
        (lambda: bounds_within(3, 9, 8, 16), "3 x 8 GPUs = 24 GPUs exceed the budget of 16"),
        (lambda: ScaleSettings(Bounds(1, 2), attainment=1.0), "attainment is 1"),
        (lambda: ScaleSettings(Bounds(1, 2), to_zero_seconds=60.0), "needs min 0"),
        (lambda: ScaleSettings(Bounds(1, 2), bursty_starts=0.5), "bursty_starts is 0.5"),
        (
            lambda: check_target((LeastTimes("TP1", 0.063, 0.0067),), 2.0, 0.005, 2048),
            "TPOT 6.70 ms > 5 ms",
        ),
        (lambda: replace(history([1.0]), requests=()), "must be as many"),
    ],
)
def test_refusals_show_the_arithmetic(make, said: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(RefusedError, match=said.replace("(", r"\(")):
        make()


def test_a_budget_of_gpus_bounds_the_most() -> None:
    assert bounds_within(1, 9, 8, 32) == Bounds(1, 4)
    check_target((LeastTimes("TP1", 3.0, 0.1), LeastTimes("TP8", 0.02, 0.004)), 2.0, 0.005, 2048)


def test_serves_rule_waits_and_takes_the_ratio() -> None:
    policy = OngoingRequests(Bounds(1, 50), 2.0)
    busy = state(flat(1.0), 4, waiting=5)  # 4 x (5 + 5) = 40 ongoing: 40 / 2 = 20 wanted
    first, memory = policy.decide(busy, None)
    assert first.wanted == 4
    early, memory = policy.decide(replace(busy, now_seconds=1029.0), memory)
    assert early.wanted == 4
    late, memory = policy.decide(replace(busy, now_seconds=1030.0), memory)
    assert (late.wanted, late.reason) == (20, Reason.ONGOING)


def test_other_baselines() -> None:
    rate = AverageRate(Bounds(1, 50), instance_model()).decide(state(flat(4.5), 1), None)[0]
    assert (rate.wanted, rate.reason) == (5, Reason.AVERAGE)
    assert Static(7).decide(state(flat(4.5), 1), None)[0].wanted == 7


def test_events_are_bounded_and_learn_what_came_true() -> None:
    policy = ScalePolicy(ScaleSettings(Bounds(1, 40)), instance_model())
    log = EventLog(capacity=3)
    for number, load in enumerate((2.0, 5.0, 5.0, 9.0, 14.0, 20.0)):
        given_state = state(flat(load), 2, now=1000.0 + 10 * number)
        log = log.after("m", policy.name, given_state, policy.decide(given_state, None)[0])
    assert [one.number for one in log.events] == [3, 4, 5]
    assert all(one.came_true is None for one in log.events)
    log = log.after(
        "m", policy.name, state(flat(20.0), 22, now=1200.0), Decision(22, Reason.HOLD, 0)
    )
    came = log.events[0].came_true
    assert came is not None
    assert came.ready == 22
    shown = json.loads(json.dumps(log.events[1].as_object()))
    assert shown["inputs"]["ready"] == 2
    assert shown["predicted"]["instances"] == shown["decision"]["wanted"]
