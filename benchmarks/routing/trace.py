"""A chat trace: who asks what, when; the answers are the engines' own.

- K system prompts of `system_tokens` (drawn evenly from that range). Prompt k of a conversation is
  drawn with weight 1 / (k + 1)^zipf; under `dominant_share` > 0 the first prompt has that share of
  the conversations, and the others divide the rest by the same weights.
- Conversations begin as a Poisson process of `conversations_per_second` over `seconds`.
- A conversation has `turns` questions, geometric with mean `mean_turns`, at most `max_turns`. A
  question has `question_tokens`, its answer at most `answer_tokens`; both drawn evenly.
- The next question comes an exponential think time (mean `think_seconds`) after the last answer's
  end, and brings the whole history with it.

Words have four letters: one token each for the mock engine. The same shape and seed give the same
trace in every process.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, pairwise
from random import Random
from string import ascii_lowercase


@dataclass(frozen=True, slots=True)
class TraceShape:
    """What a trace is drawn from; the docstring of the module explains each."""

    seconds: float = 60.0
    conversations_per_second: float = 3.0
    system_prompts: int = 24
    zipf: float = 1.0
    dominant_share: float = 0.0
    system_tokens: tuple[int, int] = (800, 1600)
    question_tokens: tuple[int, int] = (20, 80)
    answer_tokens: tuple[int, int] = (40, 120)
    mean_turns: float = 4.0
    max_turns: int = 8
    think_seconds: float = 3.0

    @property
    def popularity(self) -> tuple[float, ...]:
        """The share of each system prompt; they add up to 1."""
        weights = [(k + 1) ** -self.zipf for k in range(self.system_prompts)]
        if not self.dominant_share:
            return tuple(weight / sum(weights) for weight in weights)
        rest = sum(weights[1:])
        others = ((1 - self.dominant_share) * weight / rest for weight in weights[1:])
        return (self.dominant_share, *others)


@dataclass(frozen=True, slots=True)
class Turn:
    """A question, how long its answer may be, and the time until the next question."""

    question: str
    max_tokens: int
    think_seconds: float


@dataclass(frozen=True, slots=True)
class Conversation:
    """One user's turns; `number` names the session."""

    number: int
    start_seconds: float
    system_prompt: str
    turns: tuple[Turn, ...]

    def messages(self, answers: list[str]) -> list[dict[str, str]]:
        """The messages of the turn that comes after `answers`."""
        messages = [{"role": "system", "content": self.system_prompt}]
        for turn, answer in zip(self.turns, answers, strict=False):
            messages.append({"role": "user", "content": turn.question})
            messages.append({"role": "assistant", "content": answer})
        messages.append({"role": "user", "content": self.turns[len(answers)].question})
        return messages


def make_trace(shape: TraceShape, seed: int) -> tuple[Conversation, ...]:
    """Draw a trace, in the order of arrival."""
    draw = Random(seed)
    systems = [
        _words(draw, draw.randint(*shape.system_tokens)) for _ in range(shape.system_prompts)
    ]
    edges = list(accumulate(shape.popularity, initial=0.0))
    conversations: list[Conversation] = []
    now = draw.expovariate(shape.conversations_per_second)
    while now < shape.seconds:
        point = draw.random()
        chosen = sum(low <= point for low, _ in pairwise(edges)) - 1
        turns = tuple(_turn(draw, shape) for _ in range(_turn_count(draw, shape)))
        conversations.append(Conversation(len(conversations), now, systems[chosen], turns))
        now += draw.expovariate(shape.conversations_per_second)
    return tuple(conversations)


def _turn_count(draw: Random, shape: TraceShape) -> int:
    count = 1
    while count < shape.max_turns and draw.random() > 1 / shape.mean_turns:
        count += 1
    return count


def _turn(draw: Random, shape: TraceShape) -> Turn:
    return Turn(
        question=_words(draw, draw.randint(*shape.question_tokens)),
        max_tokens=draw.randint(*shape.answer_tokens),
        think_seconds=draw.expovariate(1 / shape.think_seconds),
    )


def _words(draw: Random, count: int) -> str:
    letters = draw.choices(ascii_lowercase, k=4 * count)
    return " ".join("".join(letters[4 * n : 4 * n + 4]) for n in range(count))
