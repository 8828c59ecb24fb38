"""The engine against arithmetic, and what must hold for any load."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rayserve_par.control.decide.baselines import Static
from rayserve_par.control.instance_model.capacity import budget_within
from rayserve_par.control.instance_model.step_times import StepTimes
from rayserve_par.control.simulate.engine import Engine, EngineLimits, StepTally
from rayserve_par.control.simulate.request import Arrival, Request
from rayserve_par.control.simulate.scenario import Scenario
from rayserve_par.control.simulate.simulator import Outcome, simulate
from tests.unit.control.instances_of_llama import LIMITS, TPOT, instance_model, llama, times


def scenario(instances: int = 1, limits: EngineLimits = LIMITS, seconds: float = 60.0) -> Scenario:
    return Scenario(times(), limits, 1, instances, 50, duration_seconds=seconds)


def alone(arrivals: Sequence[Arrival], limits: EngineLimits = LIMITS) -> Outcome:
    return simulate(scenario(1, limits), Static(1), arrivals)


@pytest.mark.parametrize("tokens", [1, 100, 1024, 1536])
def test_steps_are_the_predictors(tokens: int) -> None:
    expected = llama().prefill_seconds(tokens)
    assert times().mixed(tokens, 0.0, 0, 0.0) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("batch", [1, 7, 64, 256])
@pytest.mark.parametrize("context", [1, 640, 2000, 9001])
def test_decodes_are_the_predictors(batch: int, context: int) -> None:
    expected = llama().decode_time(batch=batch, context_tokens=context).total
    assert times().decode(batch, context) == pytest.approx(expected, rel=1e-3)


def test_tp_is_in_the_times() -> None:
    assert StepTimes(llama(2)).mixed(1024, 0.0, 0, 0.0) == pytest.approx(
        llama(2).prefill_seconds(1024)
    )


def test_one_request_alone() -> None:
    request = alone([Arrival(1.0, 1000, 50)]).requests[0]
    first = llama().prefill_seconds(1000) + llama().constants.first_token_seconds
    assert request.ttft_seconds == pytest.approx(first)
    steps = [times().decode(1, 1001 + n) for n in range(49)]
    assert request.tpot_seconds == pytest.approx(sum(steps) / 49, rel=1e-6)


def test_a_long_prompt_comes_in_chunks() -> None:
    request = alone([Arrival(0.0, 4000, 1)]).requests[0]
    chunks = [(1536, 0), (1536, 1536), (928, 3072)]
    expected = sum(times().mixed(size, before, 0, 0.0) for size, before in chunks)
    assert request.ttft_seconds == pytest.approx(expected + times().first_token_seconds)
    assert request.tpot_seconds == 0.0


def test_a_second_request_waits_for_the_step_and_slows_the_first() -> None:
    outcome = alone([Arrival(0.0, 1000, 400), Arrival(1.0, 1000, 2)])
    lone = alone([Arrival(0.0, 1000, 400)]).requests[0]
    first, second = outcome.requests
    assert first.end_seconds is not None
    assert lone.end_seconds is not None
    extra = times().mixed(1000, 0.0, 1, 1150.0) - times().decode(1, 1150)
    extra += times().decode(2, 1070) - times().decode(1, 1150)
    assert first.end_seconds - lone.end_seconds == pytest.approx(extra, rel=0.1)
    most = times().decode(1, 1150) + times().mixed(1000, 0.0, 1, 1150.0)
    assert second.ttft_seconds is not None
    assert second.ttft_seconds <= most + times().first_token_seconds + 1e-9


def test_the_budget_keeps_full_steps_within_tpot() -> None:
    tokens = budget_within(times(), TPOT, 2048, 8192)
    assert times().mixed(tokens - 16, 1024, 16, 2048) <= 0.9 * TPOT
    assert times().mixed(tokens + 128 - 16, 1024, 16, 2048) > 0.9 * TPOT


def test_capacity_is_where_the_queue_begins_to_grow() -> None:
    """A steady stream at 97% of the capacity keeps up, one at 103% does not."""
    full = instance_model().capacity(2048, 28).requests_per_second

    def last_wait(share: float) -> float:
        gap = 1 / (full * share)
        arrivals = [Arrival(n * gap, 2048, 28) for n in range(3000)]
        return alone(arrivals).requests[-1].ttft_seconds or 0.0

    assert last_wait(0.97) < 0.3
    assert last_wait(1.03) > 1.5


def test_poisson_arrivals_wait_as_long_as_a_queue_with_set_service() -> None:
    """M/D/1: mean wait = rho / (2 (1 - rho)) x service, for prompts that take a step each."""
    from random import Random

    draw, now, arrivals = Random(7), 0.0, []
    limits = EngineLimits(LIMITS.kv_tokens, 1024, 1024)
    service = times().mixed(1024, 0.0, 0, 0.0)
    for _ in range(20_000):
        now += draw.expovariate(0.7 / service)
        arrivals.append(Arrival(now, 1024, 1))
    outcome = alone(arrivals, limits)
    base = service + times().first_token_seconds
    waits = [(one.ttft_seconds or 0.0) - base for one in outcome.requests]
    assert sum(waits) / len(waits) == pytest.approx(0.7 / (2 * 0.3) * service, rel=0.08)


REQUESTS = st.lists(
    st.tuples(st.floats(0, 5), st.integers(1, 3000), st.integers(1, 200)), min_size=1, max_size=40
)


@settings(max_examples=60)
@given(REQUESTS, st.integers(3300, 9000), st.integers(1, 40), st.integers(64, 4096))
def test_memory_is_never_exceeded_and_everything_ends(
    drawn: list[tuple[float, int, int]], kv_tokens: int, sequences: int, budget: int
) -> None:
    limits = EngineLimits(kv_tokens, sequences, max(budget, sequences + 1))
    engine = Engine(times(), limits, StepTally())
    requests = [Request(Arrival(*one)) for one in sorted(drawn)]
    pending, ended, now = list(requests), 0, 0.0
    while pending or engine.end_seconds is not None:
        following = engine.end_seconds
        if pending and (following is None or pending[0].arrival <= following):
            now = max(now, pending[0].arrival)
            engine.add(pending.pop(0), now)
        else:
            assert following is not None
            now = following
            ended += len(engine.finish(now))
            engine.start(now)
        assert engine.kv_tokens <= engine.kv_limit
        assert engine.running <= sequences
    assert ended == len(requests)
    assert engine.kv_tokens == 0
    for one in requests:
        assert one.first_seconds is not None
        assert one.end_seconds is not None
        assert one.arrival < one.first_seconds <= one.end_seconds
