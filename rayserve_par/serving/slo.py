"""Whether a finished request kept its limits, and how requests count towards the objective.

    met    TTFT <= limit and TPOT <= limit      ttft, tpot, both    what was missed
    error  the engine gave up                   None                the client gave up: no count

TTFT in seconds from arrival in the engine's front; TPOT is the mean over the request's tokens after
the first, and a request of one token has none, so it cannot miss it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

ABORTED = "abort"
FAILED = "error"


class Outcome(StrEnum):
    """What a finished request counts as."""

    MET = "met"
    TTFT = "ttft"
    TPOT = "tpot"
    BOTH = "both"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class EndedRequest:
    """One request that the engine finished; `reason` is the engine's word for why."""

    reason: str
    output_tokens: int
    ttft_seconds: float
    tpot_seconds: float | None


@dataclass(frozen=True, slots=True)
class Slo:
    """The limits of every request, in seconds."""

    ttft_seconds: float
    tpot_seconds: float

    def outcome(self, ended: EndedRequest) -> Outcome | None:
        """What `ended` counts as; None where it does not count."""
        if ended.reason == ABORTED:
            return None
        if ended.reason == FAILED:
            return Outcome.ERROR
        late = ended.ttft_seconds > self.ttft_seconds
        slow = ended.tpot_seconds is not None and ended.tpot_seconds > self.tpot_seconds
        if late:
            return Outcome.BOTH if slow else Outcome.TTFT
        return Outcome.TPOT if slow else Outcome.MET
