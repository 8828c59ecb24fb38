"""The sums that an instance reports: arrivals by whole seconds, requests, steps by kind."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rayserve_par.serving.instance_counters import (
    REPORTED,
    InstanceCounters,
    InstanceReport,
)


def report(counters: InstanceCounters, now: float) -> InstanceReport:
    return counters.report(now, shed=1, running=2, waiting=3, kv_use=0.5, start_seconds=9.0)


def test_arrivals_are_told_once_their_second_is_over() -> None:
    counters = InstanceCounters()
    counters.on_arrived(100.1, 10)
    counters.on_arrived(100.9, 20)
    assert (report(counters, 100.95).arrived, report(counters, 100.95).second) == (0, 100)
    counters.on_arrived(101.0, 5)
    found = report(counters, 101.5)
    assert (found.second, found.arrived, found.arrived_prompt_tokens) == (101, 2, 30)
    assert report(counters, 102.0).arrived == 3


def test_steps_are_counted_by_kind() -> None:
    counters = InstanceCounters()
    counters.on_step(0.01, 0, 4, 400)
    counters.on_step(0.03, 0, 5, 500)
    counters.on_step(0.2, 1000, 5, 600)
    found = report(counters, 1.0)
    assert (found.decode_steps, found.decode_step_decodes) == (2, 9)
    assert (found.decode_step_seconds, found.decode_step_context_tokens) == (0.04, 900)
    assert (found.prefill_steps, found.prefill_step_prompt_tokens) == (1, 1000)
    assert (found.prefill_step_seconds, found.prefill_step_decodes) == (0.2, 5)


def test_a_request_of_one_token_has_no_pace() -> None:
    counters = InstanceCounters()
    counters.on_ended(10, 1, 0.0, -1.0)
    counters.on_ended(10, 5, 0.25, 2.0)
    found = report(counters, 1.0)
    assert (found.ended, found.ended_output_tokens) == (2, 6)
    assert (found.paced, found.tpot_seconds, found.queued_seconds) == (1, 0.25, 2.0)


def test_a_report_is_floats_and_back() -> None:
    found = report(InstanceCounters(), 7.0)
    floats = found.as_floats()
    assert set(floats) == set(REPORTED)
    assert all(isinstance(value, int | float) for value in floats.values())
    assert InstanceReport.from_floats({**floats, "running_requests": 4.0}) == found


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(0, 9), st.booleans()), max_size=60))
def test_sums_only_grow_and_lose_nothing(steps: list[tuple[float, int, bool]]) -> None:
    counters, now, sent, last = InstanceCounters(), 50.0, 0, -1.0
    for gap, tokens, look in steps:
        now += gap
        counters.on_arrived(now, tokens)
        sent += tokens
        if look:
            found = report(counters, now)
            assert found.arrived_prompt_tokens >= last
            last = found.arrived_prompt_tokens
    assert report(counters, now + 1).arrived_prompt_tokens == sent
    assert report(counters, now + 1).arrived == len(steps)
