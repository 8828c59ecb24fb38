"""What became of one request, from what its client saw alone.

accepted  status 200, every token asked for, and the end mark ([DONE]).
refused   4xx, 503 or 504 with an error body in OpenAI's form; 429 and 503 also with Retry-After.
cut       an answer with status 200 had begun, and then: an error event in OpenAI's form, an
          aborted connection, or an end without the end mark.
failed    no byte of an answer and the connection ended; or any other status or form (500, 502, a
          refusal without OpenAI's body or Retry-After); or a complete answer of the wrong length.
lost      nothing came for as long as the client was ready to wait.

Strict on purpose: a 500 in OpenAI's form is `failed`, since a request that has not started is to be
served elsewhere. Whether a request was served by another instance than the first chosen cannot be
seen from here; HAProxy's log says it.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

_OK = 200
_WITH_RETRY_AFTER = frozenset({429, 503})
_REFUSING_SERVER_ERRORS = frozenset({503, 504})


class Kind(StrEnum):
    """What became of a request."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    CUT = "cut"
    FAILED = "failed"
    LOST = "lost"


class Ending(StrEnum):
    """How the exchange ended, on the level of the connection."""

    COMPLETE = "the response ended by itself"
    CLOSED = "the connection was closed or reset"
    UNREACHABLE = "no connection could be made"
    SILENT = "nothing came for too long"


@dataclass(frozen=True, slots=True)
class Request:
    """One request as its client saw it; times in seconds of one clock, None where it never came.

    start: sent; first_byte: the response's status line; first_token: the first event with text.
    openai_error: an error in OpenAI's form came, as the body or as an event of the stream.
    """

    start: float
    end: float
    ending: Ending
    wanted_tokens: int
    first_byte: float | None = None
    first_token: float | None = None
    status: int | None = None
    tokens: int = 0
    done: bool = False
    openai_error: bool = False
    retry_after: bool = False

    @property
    def kind(self) -> Kind:
        """What became of it."""
        return self._judged[0]

    @property
    def reason(self) -> str:
        """Why it is of that kind, in words; the same words for the same cause."""
        return self._judged[1]

    @property
    def _judged(self) -> tuple[Kind, str]:
        if self.ending is Ending.SILENT:
            return Kind.LOST, "silent" if self.status is None else "silent after the answer began"
        if self.status is None:
            return Kind.FAILED, f"no byte of an answer: {self.ending.value}"
        return self._judged_answer if self.status == _OK else self._judged_refusal

    @property
    def _judged_answer(self) -> tuple[Kind, str]:
        if self.openai_error:
            return Kind.CUT, "error event"
        if self.ending is not Ending.COMPLETE:
            return Kind.CUT, "connection aborted"
        if not self.done:
            return Kind.CUT, "ended without [DONE]"
        if self.tokens != self.wanted_tokens:
            return Kind.FAILED, f"{self.tokens} tokens instead of {self.wanted_tokens}"
        return Kind.ACCEPTED, "complete"

    @property
    def _judged_refusal(self) -> tuple[Kind, str]:
        assert self.status is not None, "a refusal has a status"
        refusing = 400 <= self.status < 500 or self.status in _REFUSING_SERVER_ERRORS
        if not refusing:
            return Kind.FAILED, f"HTTP {self.status}"
        if not self.openai_error:
            return Kind.FAILED, f"HTTP {self.status} without OpenAI's error body"
        if self.status in _WITH_RETRY_AFTER and not self.retry_after:
            return Kind.FAILED, f"HTTP {self.status} without Retry-After"
        return Kind.REFUSED, f"HTTP {self.status}"

    def in_flight(self, at: float) -> bool:
        """Whether it was sent and not over at that time."""
        return self.start <= at < self.end

    def started(self, at: float) -> bool:
        """Whether a byte of its answer had come by that time."""
        return self.first_byte is not None and self.first_byte <= at


@dataclass(frozen=True, slots=True)
class Tally:
    """How many requests there were of each kind, and for what reasons."""

    kinds: Mapping[Kind, int]
    reasons: Mapping[str, int]

    def __getitem__(self, kind: Kind) -> int:
        return self.kinds.get(kind, 0)

    @property
    def total(self) -> int:
        """All requests."""
        return sum(self.kinds.values())


def tally(requests: Iterable[Request]) -> Tally:
    """Count requests by kind and, where they were not accepted, by "kind: reason"."""
    judged = [(request.kind, request.reason) for request in requests]
    return Tally(
        kinds=dict(Counter(kind for kind, _ in judged)),
        reasons=dict(
            Counter(f"{kind}: {why}" for kind, why in judged if kind is not Kind.ACCEPTED)
        ),
    )


def cut_delays(requests: Sequence[Request], at: float) -> tuple[float, ...]:
    """Seconds from `at` to the end of each stream that was open then and was cut; ascending."""
    return tuple(sorted(r.end - at for r in requests if r.kind is Kind.CUT and r.in_flight(at)))


def longest_silence(requests: Sequence[Request], at: float) -> float:
    """The longest time from `at` on during which no answer with status 200 began.

    It ends with the last that did begin; 0 where none did.
    """
    begun = sorted(r.first_byte for r in requests if r.first_byte is not None and r.status == _OK)
    later = [at, *(moment for moment in begun if moment >= at)]
    return max((b - a for a, b in itertools.pairwise(later)), default=0.0)


def moments(requests: Sequence[Request], at: float) -> dict[str, tuple[float, float]]:
    """Seconds from `at` to the first and the last end, by reason, of requests not accepted."""
    ends: dict[str, list[float]] = {}
    for request in requests:
        if request.kind is not Kind.ACCEPTED:
            ends.setdefault(f"{request.kind}: {request.reason}", []).append(request.end - at)
    return {reason: (min(seconds), max(seconds)) for reason, seconds in ends.items()}
