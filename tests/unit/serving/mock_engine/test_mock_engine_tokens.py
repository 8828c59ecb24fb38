"""Pseudo tokens, answers and block names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayserve_par.serving.mock_engine.tokens import (
    answer_words,
    block_names,
    chat_tokens,
    text_tokens,
)

TEXTS = st.text(alphabet="ab \n", max_size=40)
MESSAGES = st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), TEXTS), min_size=1)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", []),
        (" \n", []),
        ("word", ["word"]),
        ("wordy  words\n", ["word", "y", "word", "s"]),
        ("zwölf", ["zwöl", "f"]),
    ],
)
def test_text_tokens(text: str, tokens: list[str]) -> None:
    assert text_tokens(text) == tokens


@given(MESSAGES, st.integers(1, 50), TEXTS)
def test_next_turn_begins_with_this_turn_and_its_answer(
    messages: list[tuple[str, str]], count: int, question: str
) -> None:
    prompt = chat_tokens(messages)
    answer = answer_words(prompt, count)
    later = chat_tokens([*messages, ("assistant", " ".join(answer)), ("user", question)])
    assert later[: len(prompt) + count] == [*prompt, *answer]


@given(MESSAGES, st.integers(1, 50), st.integers(1, 50))
def test_answers_are_the_prompts_own(
    messages: list[tuple[str, str]], count: int, more: int
) -> None:
    prompt = chat_tokens(messages)
    longer = answer_words(prompt, count + more)
    assert answer_words(prompt, count) == longer[:count]
    assert text_tokens(" ".join(longer)) == longer


def test_answers_differ_by_prompt() -> None:
    answers = {tuple(answer_words([f"p{n}"], 8)) for n in range(50)}
    assert len(answers) == 50


@given(st.lists(st.sampled_from("ab"), max_size=70), st.lists(st.sampled_from("ab"), max_size=70))
def test_block_names_agree_as_far_as_the_tokens_do(first: list[str], second: list[str]) -> None:
    size = 4
    names, others = block_names(first, size), block_names(second, size)
    assert len(names) == len(first) // size
    for index, (name, other) in enumerate(zip(names, others, strict=False), start=1):
        assert (name == other) == (first[: index * size] == second[: index * size])
