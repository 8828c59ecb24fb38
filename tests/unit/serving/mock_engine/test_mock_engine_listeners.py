"""What a mock engine tells metrics of each request: TTFT, TPOT, tokens."""

from __future__ import annotations

import asyncio

import pytest

from rayserve_par.serving.health import GenerationProof
from rayserve_par.serving.mock_engine.engine import PROBE_PREFIX, EngineListeners, MockEngine
from rayserve_par.serving.mock_engine.scheduler import Request
from rayserve_par.serving.mock_engine.times import EngineTimes
from rayserve_par.serving.slo import EndedRequest

TIMES = EngineTimes(
    step_base_seconds=0.02, step_seconds_per_sequence=0.0, prefill_tokens_per_second=1e6
)


def _run(*requests: Request) -> tuple[list[float], list[EndedRequest]]:
    firsts: list[float] = []
    ended: list[EndedRequest] = []
    engine = MockEngine(TIMES, EngineListeners(on_first_token=firsts.append, on_ended=ended.append))

    async def consume(request: Request) -> None:
        async for _ in engine.generate(request):
            pass

    async def all_of_them() -> None:
        await asyncio.gather(*(consume(request) for request in requests))

    asyncio.run(all_of_them())
    return firsts, ended


@pytest.mark.parametrize("tokens", [1, 2, 5])
def test_a_request_is_told_with_its_times(tokens: int) -> None:
    firsts, [one] = _run(Request("a", 4, tokens, ()))
    assert (one.reason, one.output_tokens) == ("length", tokens)
    assert firsts == [one.ttft_seconds]
    # The loop's timer may come a little early of its own clock.
    assert one.ttft_seconds > 0.9 * TIMES.step_base_seconds
    if tokens == 1:
        assert one.tpot_seconds is None
    else:
        assert one.tpot_seconds is not None
        assert one.tpot_seconds > 0.5 * TIMES.step_base_seconds


def test_our_own_question_is_nobodys_request() -> None:
    firsts, ended = _run(Request(f"{PROBE_PREFIX}1", 1, 1, ()), Request("a", 4, 2, ()))
    assert len(firsts) == len(ended) == 1


def test_a_request_does_not_ask_the_health_check_that_a_replica_puts_in() -> None:
    """The replica's asks for a token where none came lately: asked in turn, both would wait."""
    engine = MockEngine(TIMES)

    async def first_token() -> None:
        async for _ in engine.generate(Request("a", 4, 1, ())):
            pass

    async def asked_after_a_pause() -> None:
        proof = GenerationProof(first_token, limit_seconds=2.0)
        engine.check_health = proof.prove  # type: ignore[method-assign]  # as the replica does
        await engine.check_health()

    asyncio.run(asked_after_a_pause())
