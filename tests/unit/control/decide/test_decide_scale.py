"""State -> decision with its reason, as a table; and what must always hold."""

import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rayserve_par.control.decide.decision import Reason
from rayserve_par.control.decide.scale import ScaleMemory, ScalePolicy
from rayserve_par.control.decide.settings import Bounds, ScaleSettings
from rayserve_par.control.decide.settled import Floor
from rayserve_par.control.decide.state import ModelState
from tests.unit.control.decide.states import flat, ramp, state, step
from tests.unit.control.instances_of_llama import instance_model


def policy(least: int = 1, most: int = 40, **more: float) -> ScalePolicy:
    return ScalePolicy(ScaleSettings(Bounds(least, most), **more), instance_model())


TABLE = [
    ("as needed", state(flat(2.5), 3), 3, Reason.STEADY),
    ("one of many to spare, but not with margin", state(flat(2.8), 4), 4, Reason.HOLD),
    ("far too many", state(flat(2.5), 9), 3, Reason.SHRINK),
    ("too much load", state(flat(4.5), 3), 8, Reason.FORECAST),
    ("a step two seconds ago is seen", state(step(2, 10, 4), 3, waiting=40), 12, Reason.FORECAST),
    ("a step down is waited for", state(step(10, 2, 30), 11), 11, Reason.HOLD),
    ("a step down long ago", state(step(10, 2, 90), 11), 3, Reason.SHRINK),
    ("a ramp is led by a start", state(ramp(2, 12), 12), 14, Reason.FORECAST),
    ("what starts counts", state(flat(2.5), 2, starting=1), 3, Reason.STEADY),
    ("what drains does not", state(flat(2.5), 2, draining=3), 4, Reason.FORECAST),
    ("queues longer than a start", state(flat(2.5), 3, waiting=2000), 6, Reason.BACKLOG),
    ("no room for more", state(flat(9.0), 3, room=2), 5, Reason.NO_ROOM),
    ("no room at all", state(flat(9.0), 3, room=0), 3, Reason.NO_ROOM),
    ("a dead one is replaced, one more for the queue", state(flat(2.5), 2), 4, Reason.FORECAST),
    ("nothing at all", state(flat(0.0), 1), 1, Reason.AT_MIN),
    ("nothing known yet", state([], 4), 4, Reason.HOLD),
]


@pytest.mark.parametrize(("name", "given_state", "wanted", "reason"), TABLE, ids=lambda one: one)
def test_decisions(name: str, given_state: ModelState, wanted: int, reason: Reason) -> None:
    decision, _ = policy().decide(given_state, None)
    assert (decision.wanted, decision.reason) == (wanted, reason), (name, decision.note)


@pytest.mark.parametrize(
    ("bounds", "given_state", "wanted", "reason"),
    [
        ((1, 4), state(flat(9.0), 2), 4, Reason.AT_MAX),
        ((1, 4), state(flat(9.0), 4), 4, Reason.AT_MAX),
        ((1, 2), state(flat(9.0), 4), 2, Reason.AT_MAX),
        ((3, 9), state(flat(0.5), 3), 3, Reason.AT_MIN),
        ((3, 9), state(flat(0.5), 1), 3, Reason.AT_MIN),
        ((3, 9), state(flat(0.5), 7), 3, Reason.SHRINK),
    ],
)
def test_limits(
    bounds: tuple[int, int], given_state: ModelState, wanted: int, reason: Reason
) -> None:
    decision, _ = policy(*bounds).decide(given_state, None)
    assert (decision.wanted, decision.reason) == (wanted, reason)


def test_to_zero_and_back() -> None:
    tried = policy(0, 8, to_zero_seconds=300.0)
    idle = state(flat(0.0), 1, now=1000.0)
    idle = replace(idle, instances=(replace(idle.instances[0], running=0),))
    first, memory = tried.decide(idle, None)
    assert first.wanted == 1
    early, memory = tried.decide(replace(idle, now_seconds=1200.0), memory)
    assert early.wanted == 1
    late, memory = tried.decide(replace(idle, now_seconds=1300.0), memory)
    assert (late.wanted, late.reason) == (0, Reason.TO_ZERO)
    empty = replace(idle, instances=(), now_seconds=1310.0)
    stays, memory = tried.decide(empty, memory)
    assert stays.wanted == 0
    back, memory = tried.decide(replace(empty, held=1, now_seconds=1320.0), memory)
    assert (back.wanted, back.reason) == (1, Reason.FROM_ZERO)


@pytest.mark.parametrize(
    ("known_seconds", "added_seconds_ago", "wanted", "spare"),
    [(600, 30.0, 4, 1), (600, 1e6, 3, 0), (20, 30.0, 4, 0)],
)
def test_what_only_a_recent_scale_up_keeps_is_spare(
    known_seconds: int, added_seconds_ago: float, wanted: int, spare: int
) -> None:
    """Not what is kept since too little is known."""
    floor = Floor(4, 2.5, 1000.0 - added_seconds_ago)
    seen = state(flat(2.5, known_seconds), 4)
    decision, _ = policy().decide(seen, ScaleMemory(floor=floor))
    assert (decision.wanted, decision.spare) == (wanted, spare)


def test_min_zero_without_a_time_keeps_one() -> None:
    idle = state(flat(0.0), 1)
    idle = replace(idle, instances=(replace(idle.instances[0], running=0),))
    tried = policy(0, 8)
    _, memory = tried.decide(idle, None)
    assert tried.decide(replace(idle, now_seconds=1e6), memory)[0].wanted == 1


def test_options_show_what_was_considered() -> None:
    decision, _ = policy().decide(state(flat(5.5), 6), None)
    assert decision.wanted == 6, decision.note
    assert [one.instances for one in decision.options] == [5, 6, 7]
    assert decision.options[1].utilisation == pytest.approx(
        5.5 / 6, rel=0.01
    )  # lengths are rounded to 2%
    ttft = [one.ttft_seconds for one in decision.options]
    tpot = [one.tpot_seconds for one in decision.options]
    assert ttft == sorted(ttft, reverse=True)
    assert tpot == sorted(tpot, reverse=True)
    assert decision.options[1].meets


LOADS = st.lists(st.floats(0, 60), min_size=1, max_size=12)
COUNTS = st.integers(0, 50)


def stretched(levels: list[float]) -> list[float]:
    """Ten minutes of these levels, one after the other."""
    return [levels[n * len(levels) // 600] for n in range(600)]


@settings(max_examples=60)
@given(LOADS, COUNTS, COUNTS, st.integers(0, 5), st.integers(5, 60), st.integers(0, 3000))
def test_never_outside_the_limits(
    levels: list[float], ready: int, room: int, least: int, most: int, waiting: int
) -> None:
    given_state = state(stretched(levels), ready, room=room, waiting=waiting)
    decision, _ = policy(least, most).decide(given_state, None)
    assert decision.wanted <= most
    assert decision.wanted <= max(given_state.target, 0) + room or decision.wanted <= least
    if room + ready >= least:
        assert decision.wanted >= min(least, ready + room)


@settings(max_examples=60)
@given(st.floats(0, 30), st.floats(1, 2), st.integers(0, 40))
def test_more_load_never_wants_fewer(load: float, factor: float, ready: int) -> None:
    less = policy(1, 100).decide(state(flat(load), ready), None)[0]
    more = policy(1, 100).decide(state(flat(load * factor), ready), None)[0]
    assert more.wanted >= less.wanted


@settings(max_examples=40)
@given(st.floats(0.1, 30), st.integers(1, 40))
def test_what_was_carried_out_is_enough(load: float, ready: int) -> None:
    first = policy(1, 100).decide(state(flat(load), ready), None)[0]
    again = policy(1, 100).decide(state(flat(load), first.wanted), None)[0]
    settled = policy(1, 100).decide(state(flat(load), again.wanted), None)[0]
    assert load <= again.wanted <= first.wanted
    assert settled.wanted == again.wanted


def test_a_thousand_instances_are_decided_in_50_ms() -> None:
    large = state(flat(930.0), 1000)
    tried = policy(1, 2000)
    _, memory = tried.decide(large, None)
    took = []
    for _ in range(5):
        began = time.perf_counter()
        tried.decide(large, memory)
        took.append(time.perf_counter() - began)
    assert min(took) < 0.05
