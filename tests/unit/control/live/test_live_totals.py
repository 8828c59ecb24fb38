"""What is new since the last look, the lengths that are learned from it, and start times."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rayserve_par.control.live.starts import StartTimes
from rayserve_par.control.live.totals import Totals
from rayserve_par.serving.instance_counters import InstanceReport

FIRST = InstanceReport(
    arrived=100, arrived_prompt_tokens=1000, ended=90, ended_output_tokens=900,
    first_tokens=95, ttft_seconds=19.0, paced=90, tpot_seconds=1.8, shed=3,
    decode_steps=50, decode_step_seconds=1.0, decode_step_decodes=200,
)  # fmt: skip
LATER = replace(
    FIRST, arrived=110, arrived_prompt_tokens=1400, ended=94, ended_output_tokens=980,
    first_tokens=97, ttft_seconds=20.0, paced=94, tpot_seconds=2.0, shed=5,
    decode_steps=60, decode_step_seconds=1.3, decode_step_decodes=240,
)  # fmt: skip


def test_only_what_is_new_counts() -> None:
    totals = Totals(isl=10, osl=10)
    assert totals.since({"a": FIRST}, ()).measured.ended == 0
    new = totals.since({"a": LATER}, ())
    assert (new.shed, new.measured.ended) == (2, 4)
    assert new.measured.ttft_seconds == pytest.approx(0.5)
    assert new.measured.tpot_seconds == pytest.approx(0.05)
    steps = new.measured.decode_steps
    assert (steps.count, steps.seconds, steps.decodes) == (10, pytest.approx(0.3), 40)
    # without context tokens from the engine: decodes x (ISL + OSL / 2)
    assert steps.context_tokens == pytest.approx(40 * (totals.isl + totals.osl / 2))
    assert totals.since({"a": LATER}, ()).measured.ttft_seconds is None


def test_lengths_that_were_learned_before_take_the_place_of_the_planned_ones_once() -> None:
    """After a change of the layout or of Serve's controller, requests are what they were."""
    began = replace(FIRST, arrived=20, arrived_prompt_tokens=16000)
    at_once, later = Totals(isl=64, osl=32), Totals(isl=64, osl=32)
    at_once.begin_with(800.0, 16.0)
    at_once.since({"a": began}, {"a"})
    later.since({"a": began}, {"a"})
    assert later.isl < 800
    later.begin_with(800.0, 16.0)
    later.begin_with(5.0, 5.0)
    assert at_once.isl == later.isl == pytest.approx(800)
    assert at_once.osl == pytest.approx(later.osl)


def test_an_instance_that_came_later_counts_from_zero() -> None:
    totals = Totals(isl=10, osl=10)
    assert totals.since({"a": FIRST, "b": LATER}, ("b",)).measured.ended == 94


def test_lengths_move_from_what_was_planned_to_what_comes() -> None:
    totals = Totals(isl=1000, osl=100)
    totals.since({"a": FIRST}, ("a",))  # 100 prompts of 10 tokens against 10 of 1000
    assert totals.isl == pytest.approx((10 * 1000 + 1000) / 110)
    assert totals.osl == pytest.approx((10 * 100 + 900) / 100)


def test_prompts_of_unknown_length_teach_nothing() -> None:
    totals = Totals(isl=1000, osl=100)
    totals.since({"a": InstanceReport(arrived=50)}, ("a",))
    assert totals.isl == 1000


def test_starts_are_measured_from_the_look_that_misses_an_instance() -> None:
    starts = StartTimes(60.0)
    assert starts.seconds == 60
    starts.look(100.0, 1, ["a"])
    starts.look(110.0, 3, ["a"])
    assert starts.expected(110.0) == [170, 170]
    starts.look(130.0, 3, ["a", "b"])
    assert starts.seconds == 20
    starts.look(140.0, 3, ["a", "b", "c"])
    assert starts.seconds == pytest.approx(25)  # the median of 20 and 30
    assert starts.expected(140.0) == []


def test_a_start_that_is_over_by_the_next_look_is_measured() -> None:
    starts = StartTimes(60.0)
    starts.look(100.0, 1, ["a"])
    starts.told(100.0, 2)
    assert starts.expected(100.0) == [160]
    starts.look(102.0, 2, ["a", "b"])
    assert starts.seconds == 2


def test_a_start_begins_when_it_is_asked_for_and_not_when_it_is_missed() -> None:
    starts = StartTimes(60.0)
    starts.look(100.0, 1, ["a"])
    starts.told(100.0, 2)
    starts.look(102.0, 2, ["a"])
    starts.told(102.0, 2)
    starts.look(130.0, 2, ["a", "b"])
    assert starts.seconds == 30


def test_what_serve_does_not_start_after_all_is_no_start() -> None:
    starts = StartTimes(60.0)
    starts.look(100.0, 1, ["a"])
    starts.told(100.0, 3)
    starts.look(102.0, 1, ["a"])
    assert starts.expected(102.0) == []


def test_starts_that_were_under_way_before_are_not_measured() -> None:
    starts = StartTimes(60.0)
    starts.look(100.0, 2, ["a"])
    starts.look(101.0, 2, ["a", "b"])
    assert starts.seconds == 60


def test_a_dead_instance_is_a_start_and_a_withdrawn_one_is_not() -> None:
    starts = StartTimes(60.0)
    starts.look(100.0, 2, ["a", "b"])
    starts.look(110.0, 2, ["a"])
    starts.look(115.0, 1, ["a"])
    assert starts.expected(115.0) == []
    starts.look(120.0, 2, ["a"])
    starts.look(127.0, 2, ["a", "c"])
    assert starts.seconds == 7
    # what should be over is expected now, not in the past
    starts.look(200.0, 3, ["a", "c"])
    assert starts.expected(300.0) == [300]
