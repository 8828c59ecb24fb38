"""How far predictions are off, learned from what engines do: bounded, and forgotten with time.

    ratio   = seconds of steps measured / predicted for the same mean steps
    log c  <- log c + weight x (log ratio - log c)       weight = n / (n + 2000), n steps
    log c  <- log c x 2^(-dt / half-life)                where there were none
    c       in [1/2, 2]

Steps with and without prompt tokens are predicted apart, each by their means: a step is straight in
tokens within a kind. That compares like with like; TTFT and TPOT would bring in queues, which say
nothing about the engine. Half-life 600 s. c below `correct_from` (and
above its inverse) is left at 1: the prediction of a mean is itself no better.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log

from rayserve_par.control.decide.state import Measured
from rayserve_par.control.instance_model.capacity import InstanceModel

HALF_LIFE_SECONDS = 600.0
_LIMIT = log(2.0)
_TRUST = 2000.0


@dataclass(frozen=True, slots=True)
class Correction:
    """The factor by which step times are longer than predicted."""

    log_factor: float = 0.0
    seconds: float = 0.0

    @property
    def factor(self) -> float:
        """As learned, within [1/2, 2]."""
        return exp(self.log_factor)

    def applied(self, correct_from: float) -> float:
        """The factor to plan with: 1 where it is within what a mean can be off by."""
        return 1.0 if abs(self.log_factor) < log(correct_from) else self.factor

    def after(self, now_seconds: float, measured: Measured, predicted: float) -> Correction:
        """With the steps measured since, which the model says take `predicted` seconds."""
        kinds = (measured.decode_steps, measured.prefill_steps)
        steps, seconds = sum(one.count for one in kinds), sum(one.seconds for one in kinds)
        if not steps or seconds <= 0 or predicted <= 0:
            passed = max(0.0, now_seconds - self.seconds)
            return Correction(self.log_factor * 2 ** (-passed / HALF_LIFE_SECONDS), now_seconds)
        weight = steps / (steps + _TRUST)
        moved = self.log_factor + weight * (log(seconds / predicted) - self.log_factor)
        return Correction(max(-_LIMIT, min(_LIMIT, moved)), now_seconds)


NO_CORRECTION = Correction()


def predicted_seconds(measured: Measured, model: InstanceModel) -> float:
    """What the model says the measured steps take."""
    found = 0.0
    for one in (measured.decode_steps, measured.prefill_steps):
        if one.count:
            context = one.context_tokens / one.decodes if one.decodes else 0.0
            step = model.step_seconds(
                one.prompt_tokens / one.count, one.decodes / one.count, context
            )
            found += one.count * step
    return found
