"""The chat trace: what its shape promises, drawn."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from statistics import fmean

import pytest

from benchmarks.routing.trace import Conversation, TraceShape, Turn, make_trace
from rayserve_par.serving.mock_engine.tokens import text_tokens

LONG = TraceShape(seconds=400.0, system_tokens=(20, 40), system_prompts=6)


def test_the_same_seed_gives_the_same_trace_and_another_another() -> None:
    assert make_trace(LONG, 1) == make_trace(LONG, 1)
    assert make_trace(LONG, 1) != make_trace(LONG, 2)


def test_arrivals_are_in_order_and_as_many_as_the_rate_says() -> None:
    trace = make_trace(LONG, 1)
    assert all(a.start_seconds < b.start_seconds for a, b in pairwise(trace))
    assert [one.number for one in trace] == list(range(len(trace)))
    assert trace[0].start_seconds > 0
    assert trace[-1].start_seconds < LONG.seconds
    assert len(trace) == pytest.approx(1200, rel=0.1)


@pytest.mark.parametrize(
    ("shape", "shares"),
    [
        # 1, 1/2, 1/3 of their sum 11/6
        (TraceShape(system_prompts=3, zipf=1.0), (6 / 11, 3 / 11, 2 / 11)),
        (TraceShape(system_prompts=4, zipf=0.0), (0.25, 0.25, 0.25, 0.25)),
        # the rest divided as 1/2 to 1/3
        (TraceShape(system_prompts=3, dominant_share=0.5), (0.5, 0.3, 0.2)),
    ],
)
def test_popularity(shape: TraceShape, shares: tuple[float, ...]) -> None:
    assert shape.popularity == pytest.approx(shares)


@pytest.mark.parametrize("dominant_share", [0.0, 0.6])
def test_prompts_are_drawn_by_popularity(dominant_share: float) -> None:
    shape = replace(LONG, dominant_share=dominant_share)
    trace = make_trace(shape, 1)
    counted = Counter(one.system_prompt for one in trace).most_common()
    assert len(counted) == shape.system_prompts
    drawn = [count / len(trace) for _, count in counted]
    assert drawn == pytest.approx(sorted(shape.popularity, reverse=True), abs=0.05)


def test_lengths_and_turns_are_within_the_shape() -> None:
    trace = make_trace(LONG, 1)
    turns = [len(one.turns) for one in trace]
    # geometric with mean 4, cut at 8: (1 - 0.75^8) / 0.25 = 3.6
    assert (min(turns), max(turns)) == (1, LONG.max_turns)
    assert fmean(turns) == pytest.approx(3.6, rel=0.05)
    every = [turn for one in trace for turn in one.turns]
    assert {20 <= len(text_tokens(one.system_prompt)) <= 40 for one in trace} == {True}
    assert {20 <= len(text_tokens(turn.question)) <= 80 for turn in every} == {True}
    assert {40 <= turn.max_tokens <= 120 for turn in every} == {True}
    assert fmean(turn.think_seconds for turn in every) == pytest.approx(3.0, rel=0.05)


def test_messages_bring_the_history() -> None:
    turns = tuple(Turn(question, 10, 1.0) for question in ("one", "two", "three"))
    conversation = Conversation(0, 0.0, "system", turns)
    assert [
        f"{message['role']}: {message['content']}" for message in conversation.messages(["a", "b"])
    ] == [
        "system: system",
        "user: one",
        "assistant: a",
        "user: two",
        "assistant: b",
        "user: three",
    ]
