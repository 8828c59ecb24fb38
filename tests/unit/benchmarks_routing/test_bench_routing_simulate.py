"""The simulation: exact times for known cases, and policies that do what their names say."""

from __future__ import annotations

import pytest

from benchmarks.routing.simulate import Policy, Simulation, power_of_two, round_robin
from benchmarks.routing.trace import Conversation, TraceShape, Turn, make_trace
from rayserve_par.serving.mock_engine.times import EngineTimes

TIMES = EngineTimes(
    prefill_tokens_per_second=1000.0, step_base_seconds=0.1, step_seconds_per_sequence=0.0
)


def conversation(number: int, start: float, turns: int = 1) -> Conversation:
    """A system prompt of 90 tokens, questions of 5: with 2 + 2 + 1 markers 100 tokens at first."""
    prompt = " ".join(f"s{n:03}" for n in range(90))
    question = Turn("q001 q002 q003 q004 q005", max_tokens=3, think_seconds=1.0)
    return Conversation(number, start, prompt, (question,) * turns)


def test_one_request() -> None:
    found = Simulation(2, TIMES, round_robin()).run([conversation(0, 4.9)], 0.0)
    assert found.ttft_p50_seconds == pytest.approx(0.1 + 100 / 1000)
    assert (found.requests, found.hit_rate, found.balance) == (1, 0.0, 2.0)


def test_the_next_turn_comes_after_thinking_and_finds_its_history() -> None:
    asked: list[float] = []

    def note(_text: str, _in_flight: object, now: float) -> int:
        asked.append(now)
        return 0

    found = Simulation(1, TIMES, note).run([conversation(0, 5.0, turns=2)], 0.0)
    # The first answer takes 0.2 + 0.1 + 0.1 s, then 1 s of thinking.
    assert asked == pytest.approx([5.0, 6.4])
    # The second prompt: 100 + 3 + <|end|> + 7 + <|assistant|> = 112 tokens, of them the
    # 102 computed ones in full blocks: 96.
    assert found.hit_rate == pytest.approx(96 / (100 + 112))
    assert found.ttft_p50_seconds == pytest.approx(0.1 + 16 / 1000)
    assert found.ttft_p95_seconds == pytest.approx(0.2)


@pytest.mark.parametrize("policy", [round_robin(), power_of_two(1)])
def test_two_at_once_go_to_two_instances(policy: Policy) -> None:
    trace = [conversation(0, 4.9), conversation(1, 4.9)]
    found = Simulation(2, TIMES, policy).run(trace, 0.0)
    assert found.balance == 1.0
    assert found.hit_rate == 0.0


def test_every_turn_of_a_trace_is_answered() -> None:
    shape = TraceShape(seconds=20.0, system_tokens=(50, 100))
    trace = make_trace(shape, 1)
    found = Simulation(3, EngineTimes(), round_robin()).run(trace, 0.0)
    assert found.requests == sum(len(one.turns) for one in trace)
    assert found.failed == 0
    assert 0 < found.hit_rate < 1
    assert 1 <= found.balance <= 3
