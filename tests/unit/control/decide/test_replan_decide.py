"""State -> decision with its reason, as a table; and whole lives of a deployment."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from rayserve_par.control.decide.change_way import Way
from rayserve_par.control.decide.prospect import CountBy, Counting
from rayserve_par.control.decide.replan import replan
from rayserve_par.control.decide.replan_settings import ReplanSettings
from rayserve_par.control.decide.replan_state import Action, ReplanMemory, ReplanState, Why
from rayserve_par.control.decide.trial import Figures
from rayserve_par.errors import RefusedError
from tests.unit.control.decide.replan_cases import TP1, TP2, TP4, prospect, state

SETTINGS = ReplanSettings()
CALM = ReplanMemory(cluster="2x8xH100", cluster_since_seconds=0.0, counted_on="2x8xH100")
LOST = replace(CALM, lost_seconds=990.0)
BETTER = replace(TP2, requests_per_second=20.0)
FIT = Counting(CountBy.FIT)


@pytest.mark.parametrize(
    ("seen", "memory", "action", "why"),
    [
        (state(TP1, TP1, TP2), CALM, Action.KEEP, Why.BEST),
        (state(TP1), CALM, Action.KEEP, Why.BEST),
        (state(TP1, TP2), CALM, Action.KEEP, Why.NO_GAIN),
        (state(TP1, BETTER), CALM, Action.CHANGE, Why.BETTER),
        (state(TP1, BETTER, explicit=True), CALM, Action.KEEP, Why.EXPLICIT),
        (state(replace(TP1, room=0), TP2, explicit=True), CALM, Action.CANNOT, Why.MISSING),
        (state(None, TP2, explicit=True), CALM, Action.CANNOT, Why.MISSING),
        (state(TP1, BETTER, now_seconds=59.0), CALM, Action.KEEP, Why.SETTLING),
        (state(TP1, BETTER), replace(CALM, changed_seconds=500.0), Action.KEEP, Why.TOO_SOON),
        (state(TP1, BETTER), replace(CALM, changed_seconds=400.0), Action.CHANGE, Why.BETTER),
        (state(TP1, BETTER, start_seconds=3600.0), CALM, Action.KEEP, Why.COST),
        (state(TP1, BETTER, ready=1), CALM, Action.KEEP, Why.ROLLING),
        (state(TP1, BETTER, others=1), CALM, Action.KEEP, Why.ROLLING),
        # No place beside what runs: one after the other where two run, else only with leave.
        (state(TP1, replace(BETTER, beside=0)), CALM, Action.CHANGE, Why.BETTER),
        (state(TP1, replace(BETTER, beside=0, in_place=False)), CALM, Action.KEEP, Why.OUTAGE),
        (state(TP1, replace(BETTER, beside=0), target=1, ready=1), CALM, Action.KEEP, Why.OUTAGE),
        # A layout that breaks a limit is no gain; one that mends it is.
        (state(TP1, replace(BETTER, excess=1.5)), CALM, Action.KEEP, Why.NO_GAIN),
        (state(replace(TP1, excess=1.5), TP2), CALM, Action.CHANGE, Why.BETTER),
        # The present layout fits no more.
        (state(replace(TP4, room=0), TP1, ready=0), LOST, Action.FALL_BACK, Why.LOST),
        (state(None, TP1, ready=0), LOST, Action.FALL_BACK, Why.LOST),
        (
            state(replace(TP4, room=0), replace(TP2, room=0), ready=0),
            CALM,
            Action.CANNOT,
            Why.MISSING,
        ),
        (state(None, ready=0), CALM, Action.CANNOT, Why.MISSING),
        # What serves is never stopped because the planner would not have it so.
        (state(None, TP1, ready=1), CALM, Action.KEEP, Why.SETTLING),
        (
            state(replace(TP4, room=0), TP1, ready=0),
            replace(CALM, lost_seconds=991.0),
            Action.KEEP,
            Why.SETTLING,
        ),
        (state(replace(TP4, room=0), TP1, ready=0), CALM, Action.KEEP, Why.SETTLING),
        # Another number of the same layout.
        (
            state(TP1, TP1, counting=FIT),
            replace(CALM, counted_on="1x8xH100"),
            Action.COUNT,
            Why.ROOM,
        ),
        (
            state(replace(TP1, room=1), TP1, counting=FIT, ready=1),
            replace(CALM, counted_on="3x8xH100"),
            Action.COUNT,
            Why.ROOM,
        ),
        (state(TP1, TP1, counting=FIT), CALM, Action.KEEP, Why.BEST),
        (
            state(TP1, TP1, target=1, ready=1),
            replace(CALM, counted_on="1x8xH100"),
            Action.COUNT,
            Why.ROOM,
        ),
    ],
)
def test_decisions(seen: ReplanState, memory: ReplanMemory, action: Action, why: Why) -> None:
    decision, _ = replan(seen, memory, SETTINGS)
    assert (decision.action, decision.why) == (action, why), decision.note


def test_an_outage_is_taken_where_it_is_allowed() -> None:
    alone = state(TP1, replace(BETTER, beside=0), target=1, ready=1)
    decision, _ = replan(alone, CALM, replace(SETTINGS, allow_outage=True))
    assert (decision.action, decision.way) == (Action.CHANGE, Way.ALL_AT_ONCE)


def test_what_cannot_be_says_what_is_missing() -> None:
    decision, _ = replan(state(None, ready=0), CALM, SETTINGS)
    assert decision.note == "2 nodes per instance, 1 node"
    decision, _ = replan(state(None, explicit=True), CALM, SETTINGS)
    assert decision.note == "2 nodes per instance, 1 node"


def measured(tpot: float, rate: float = 8.0) -> Figures:
    return Figures(rate, 0.3, tpot)


def life(seen: ReplanState, memory: ReplanMemory, seconds: int) -> tuple[list[Any], ReplanMemory]:
    """What is decided at each second, but for waiting, while nothing else changes."""
    found = []
    for _ in range(seconds):
        seen = replace(seen, now_seconds=seen.now_seconds + 1)
        decision, memory = replan(seen, memory, SETTINGS)
        if decision.acts:
            found.append(decision)
    return found, memory


BEFORE = state(TP1, BETTER, TP1, measured=measured(0.030))


def changed_after_measuring() -> ReplanMemory:
    """TP1 was measured at 30 ms, and BETTER, predicted at 40 ms, was then decided on."""
    kept, memory = life(BEFORE, replace(CALM, changed_seconds=900.0), 100)
    assert kept == []
    [changed], memory = life(BEFORE, replace(memory, changed_seconds=None), 1)
    assert changed.why is Why.BETTER
    return memory


def test_a_layout_that_is_worse_in_fact_is_taken_back_and_barred() -> None:
    slow = replace(BEFORE, present=BETTER, measured=measured(0.056))
    [last, back], memory = life(slow, changed_after_measuring(), 122)
    assert last.why is Why.LAST_STEP
    assert (back.action, back.why, back.choice) == (Action.BACK_OUT, Why.WORSE, TP1.choice(2))
    assert "TPOT 56 ms breaks 50 ms, was 30" in back.note
    decided, memory = life(replace(BEFORE, now_seconds=1200.0), memory, 3000)
    assert [one.why for one in decided] == [Why.LAST_STEP]
    later = replace(BEFORE, now_seconds=1131.0 + SETTINGS.barred_seconds)
    assert life(later, memory, 1)[0][0].why is Why.BETTER


def test_a_layout_that_is_as_predicted_stays() -> None:
    """49 ms are within the limit, and below 1.25 x the 40 ms that were predicted."""
    as_said = replace(BEFORE, present=BETTER, measured=measured(0.049))
    decided, memory = life(as_said, changed_after_measuring(), 300)
    assert [one.why for one in decided] == [Why.LAST_STEP]
    assert memory.trial is None


@pytest.mark.parametrize(
    ("room_seconds", "instances"),
    [
        (3, 2),
        # Another application has taken the GPUs: what fits is what there is.
        (None, 1),
    ],
)
def test_the_last_step_waits_for_gpus_that_ray_has_not_given_back(
    room_seconds: int | None, instances: int
) -> None:
    """One by one sets the number last, just when the last old instance has ended."""
    memory = replace(CALM, rolling_out=True, changed_seconds=990.0)
    short = state(replace(TP2, room=1), TP2, target=1, ready=1)
    waited = room_seconds if room_seconds is not None else int(SETTINGS.settle_seconds)
    decided, memory = life(short, memory, waited)
    assert decided == []
    assert memory.rolling_out
    then = replace(short, now_seconds=short.now_seconds + waited)
    if room_seconds is not None:
        then = replace(then, present=TP2)
    [last], memory = life(then, memory, 1)
    assert (last.why, last.step.instances) == (Why.LAST_STEP, instances)
    assert not memory.rolling_out
    assert memory.short_seconds is None


def left_short(present: Any) -> ReplanMemory:
    """Two are asked for; the roll-out ended with one, since another application has the rest."""
    memory = replace(CALM, rolling_out=True, changed_seconds=990.0)
    [last], memory = life(state(replace(present, room=1), present, target=1, ready=1), memory, 61)
    assert (last.why, last.step.instances) == (Why.LAST_STEP, 1)
    return memory


def test_one_left_short_gets_the_rest_once_there_is_room_for_it() -> None:
    now = state(TP2, TP2, target=1, ready=1, now_seconds=2000.0)
    decided, memory = life(now, left_short(TP2), int(SETTINGS.settle_seconds))
    assert decided == []
    later = replace(now, now_seconds=now.now_seconds + SETTINGS.settle_seconds)
    [more], memory = life(later, memory, 1)
    assert (more.action, more.why, more.step.instances) == (Action.COUNT, Why.ROOM, 2)
    # Both run, one is lost, and Serve starts it again by itself.
    both = replace(later, target=2, ready=2)
    decided, _ = life(both, memory, 300)
    assert decided == []


def test_room_that_comes_and_goes_gives_nothing_to_one_left_short() -> None:
    """Such as GPUs between two instances of another application's roll-out."""
    memory = left_short(TP2)
    there = state(TP2, TP2, target=1, ready=1, now_seconds=2000.0)
    for _ in range(5):
        decided, memory = life(there, memory, 50)
        gone = replace(there, present=replace(TP2, room=1), now_seconds=there.now_seconds + 50)
        more, memory = life(gone, memory, 10)
        there = replace(there, now_seconds=there.now_seconds + 60)
        assert decided + more == []


def test_a_number_that_an_operator_lowered_is_not_raised_again() -> None:
    decided, _ = life(state(TP2, TP2, target=1, ready=1), CALM, 300)
    assert decided == []


def test_a_trial_waits_for_comparable_load_and_then_ends() -> None:
    before = state(TP1, BETTER, TP1, measured=measured(0.030))
    _, memory = life(before, replace(CALM, changed_seconds=1e9), 50)
    [_], memory = life(before, replace(memory, changed_seconds=None), 1)
    idle = replace(before, present=BETTER, measured=measured(0.2, rate=2.0))
    decided, memory = life(idle, memory, 1500)
    assert [one.why for one in decided] == [Why.LAST_STEP]
    assert memory.trial is not None
    decided, memory = life(replace(idle, now_seconds=2500.0), memory, 500)
    assert decided == []
    assert memory.trial is None


def test_a_layout_that_does_not_start_is_taken_back() -> None:
    [_], memory = life(state(TP1, BETTER, TP1), CALM, 1)
    failed = state(BETTER, BETTER, TP1, failed=True, ready=0, others=2)
    [back], memory = life(failed, memory, 1)
    assert (back.action, back.why, back.choice) == (Action.BACK_OUT, Why.FAILED, TP1.choice(2))
    # Of the ones that fit, never the one that failed; and where there is no other, none.
    [_], memory = life(state(replace(TP4, room=0), TP2, TP1, ready=0), LOST, 1)
    [back], _ = life(state(TP2, TP2, TP1, failed=True, ready=0), memory, 1)
    assert back.choice == TP1.choice(2)
    assert back.way is Way.ALL_AT_ONCE
    decided, _ = life(state(TP2, TP2, failed=True, ready=0), memory, 1)
    assert decided == []


def test_the_way_back_does_not_stop_the_last_one_that_serves() -> None:
    [_], memory = life(state(TP1, BETTER, TP1, target=1, ready=1), CALM, 1)
    full = replace(TP1, beside=0, in_place=False)
    failed = state(BETTER, BETTER, full, failed=True, target=1, ready=0, others=1)
    decision, after = replan(failed, memory, SETTINGS)
    assert (decision.action, decision.why) == (Action.KEEP, Why.OUTAGE)
    assert after.is_barred(BETTER)
    decision, _ = replan(failed, memory, replace(SETTINGS, allow_outage=True))
    assert decision.action is Action.BACK_OUT


def test_old_instances_serve_on_where_the_new_ones_find_no_place() -> None:
    taken = replace(BETTER, room=0)
    decided, _ = life(state(taken, taken, TP1, ready=0, others=2), LOST, 100)
    assert decided == []


def test_a_fallback_takes_fewer_and_the_number_comes_back_with_the_nodes() -> None:
    lost = state(replace(TP4, room=0), prospect(TP2.layout, room=1), ready=0, cluster="1x2xH100")
    waited, memory = life(lost, CALM, 10)
    assert waited == []
    [back], memory = life(replace(lost, now_seconds=1010.0), memory, 1)
    assert back.action is Action.FALL_BACK
    assert back.choice == TP2.choice(1)
    one = replace(lost, present=prospect(TP2.layout, room=1), target=1, ready=1)
    decided, memory = life(replace(one, now_seconds=1100.0), memory, 700)
    assert [one.why for one in decided] == [Why.LAST_STEP]
    two = replace(one, present=TP2, candidates=(TP2,), cluster="2x2xH100", now_seconds=1900.0)
    [count], memory = life(two, memory, 100)
    assert (count.action, count.choice) == (Action.COUNT, TP2.choice(2))
    decided, _ = life(replace(two, target=2, ready=2, now_seconds=2100.0), memory, 700)
    assert decided == []


def test_without_any_candidate_the_planners_refusal_is_said() -> None:
    found, _ = replan(state(TP1, missing="target rate: no rate is given."), CALM, SETTINGS)
    assert found.why is Why.BEST
    assert "TP1 stays" in found.note
    assert "no rate is given" in found.note


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"least_gain": 0.0}, "least_gain is 0; it must be from 0.01 to 10"),
        ({"worse_factor": 1.0}, "worse_factor is 1"),
        ({"settle_seconds": float("nan")}, "settle_seconds is nan"),
        ({"trial_limit_seconds": 1.0}, "trial_limit_seconds 1 is below trial_seconds 120"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, float], words: str) -> None:
    with pytest.raises(RefusedError, match=words):
        replace(SETTINGS, **changes)
