"""The simulator at a cluster's looks: it decides when the live controller did, and knows as much.

A look is when the controller decided, up to when it knew the arrivals, and how long it believed
that a start takes. The simulator's clock is the cluster's, so that both cut arrivals into the same
seconds. What is left to differ is what engines, routing and Serve made of the decisions, and the
queues before the engines, which the cluster's looks know as late as the arrivals.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from rayserve_par.control.decide.decision import Decision
from rayserve_par.control.decide.scale import ScaleMemory, ScalePolicy
from rayserve_par.control.decide.state import LoadHistory, ModelState
from rayserve_par.control.live.records import ControlStatus

_NEVER_SECONDS = 1e9
_SAME_SECONDS = 1e-6


@dataclass(frozen=True, slots=True)
class Look:
    """One look: when, until when the arrivals were known, how long a start was believed to take."""

    seconds: float
    known_seconds: float
    start_seconds: float

    @property
    def age_seconds(self) -> float:
        """How old what it knew of the arrivals was."""
        return self.seconds - self.known_seconds


def looks_of(statuses: Sequence[ControlStatus], zero: float) -> list[Look]:
    """The looks at which these statuses were written, from the second in which `zero` lies on.

    Their seconds count from the begin of that one. Looks that failed are left out.
    """
    begin = int(zero)
    return [
        # What is known ends with a whole second; the status is written a moment after the look.
        Look(
            one.seconds - begin,
            float(round(one.seconds - one.load_age_seconds) - begin),
            one.start_seconds,
        )
        for one in statuses
        if one.load_age_seconds is not None and one.seconds >= begin
    ]


def drawn_looks(
    seen: Sequence[Look], start_seconds: float, end_seconds: float, seed: int
) -> list[Look]:
    """Looks as they might as well have fallen: another beginning, and ages in another order."""
    draw = random.Random(seed)
    gap = (seen[-1].seconds - seen[0].seconds) / (len(seen) - 1)
    begin, first = draw.uniform(0.0, gap), draw.randrange(len(seen))
    return [
        Look(
            begin + gap * number,
            float(round(begin + gap * number - seen[(first + number) % len(seen)].age_seconds)),
            start_seconds,
        )
        for number in range(int((end_seconds - begin) / gap) + 1)
    ]


@dataclass(frozen=True, slots=True)
class AtLooks:
    """The policy, asked at these looks only. Before the first one it is asked nothing."""

    policy: ScalePolicy
    looks: Sequence[Look]
    name: str = "at_looks"

    @property
    def history_seconds(self) -> float:
        """The policy's."""
        return self.policy.history_seconds

    def decide(
        self, state: ModelState, memory: ScaleMemory | None
    ) -> tuple[Decision, ScaleMemory | None]:
        """What the policy decides at this look, of what was known then."""
        at = [one.seconds for one in self.looks]
        index = bisect_right(at, state.now_seconds + _SAME_SECONDS)
        found: Any = memory
        if index:
            look = self.looks[index - 1]
            known = replace(
                state,
                load=until(state.load, look.known_seconds),
                start_seconds=look.start_seconds,
            )
            decision, found = self.policy.decide(known, memory)
        else:
            decision, _ = self.policy.decide(state, None)
            decision = replace(decision, wanted=state.target)
        following = at[index] if index < len(at) else state.now_seconds + _NEVER_SECONDS
        return replace(decision, next_look_seconds=following), found


def until(load: LoadHistory, seconds: float) -> LoadHistory:
    """The history as it was known when it ended at `seconds`."""
    cut = max(0, round((load.end_seconds - seconds) / load.bin_seconds))
    if not cut:
        return load
    return replace(
        load,
        end_seconds=load.end_seconds - cut * load.bin_seconds,
        requests=load.requests[:-cut],
        prompt_tokens=load.prompt_tokens[:-cut],
    )
