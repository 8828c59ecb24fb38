"""The requests of a load, drawn by seed: when each is due, its prompt and its answer's length.

The same seed gives every server the same requests. Prompts are random words, so no two share a
prefix that a cache could keep beyond the chat template.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

# Common words are one token each in SmolLM2; the chat template adds about 30.
_TEXT = """
time year people way day man thing woman life child world school state family student group country
problem hand part place case week company system program question work number night point home
water room mother area money story fact month lot right study book eye job word
"""
WORDS: Sequence[str] = tuple(_TEXT.split())


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: due so many seconds after the load begins, with exactly so many tokens out."""

    due_seconds: float
    prompt: str
    output_tokens: int


def prompts(seed: int, words: int) -> Iterator[str]:
    """Endless different prompts of `words` words."""
    chosen = random.Random(seed)
    while True:
        yield " ".join(chosen.choices(WORDS, k=words))


def arrivals(seed: int, rate: float) -> Iterator[float]:
    """Seconds after the start at which requests come: Poisson of `rate` a second; all 0 if 0."""
    chosen = random.Random(seed)
    seconds = 0.0
    while True:
        if rate:
            seconds += chosen.expovariate(rate)
        yield seconds


def lengths(seed: int, tokens: int, spread: float) -> Iterator[int]:
    """Output tokens, evenly from `tokens` x (1 - `spread`) to `tokens` x (1 + `spread`).

    At least 2, since TPOT is the time between tokens. Streams whose answers have all one length
    fall into step: those that begin together end together, and begin together again.
    """
    # Not the numbers that the times of arrival are drawn from.
    chosen = random.Random(f"lengths {seed}")
    off = int(tokens * spread)
    while True:
        yield max(2, tokens + chosen.randint(-off, off))
