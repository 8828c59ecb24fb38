"""TTFT and TPOT of an instance that serves C streams without pause.

Symbols: C streams per DP rank, p seconds of one prompt's prefill, d seconds of a decode step with
C sequences, s the engine's wave share, a its admission steps, f first-token seconds, i the
interference.

    TPOT = d + i x (1 - s / 2) x p x C / OSL
           every stream's prompt passes once in OSL steps; of those that arrive together, half
           are through before a stream begins to decode
    TTFT = f + p + a x d + s x (C - 1) / 2 x p
           a share s of the streams arrive together, as when a benchmark starts, and queue

Where KV memory holds only c < C requests, c of them run and the others wait (Little's law for a
closed loop): TTFT grows by (C / c - 1) x (OSL x TPOT + p).
Left out: prefix-cache hits, speculative decoding, variance of lengths.
Only operators are used on numbers, so that the fitting script may pass arrays in their place.
"""

from dataclasses import dataclass

from rayserve_par.planning.performance.constants import Constants, EngineConstants
from rayserve_par.planning.performance.step import (
    PassTime,
    RankSpeed,
    pass_time,
    prefill_seconds_of,
)
from rayserve_par.planning.performance.work import PassWork


@dataclass(frozen=True, slots=True)
class SteadyState:
    """Seconds to the first token and per token after it, and what they are made of."""

    ttft_seconds: float
    tpot_seconds: float
    decode: PassTime
    prefill_seconds: float


def steady_state(
    decode: PassWork,
    prefill: PassWork,
    *,
    streams: float,
    running: float,
    output_tokens: float,
    speed: RankSpeed,
    constants: Constants,
    engine: EngineConstants,
) -> SteadyState:
    """The steady state of `streams` requests per DP rank, of which `running` fit its KV memory.

    `decode` is a step of those that run, `prefill` the pass of one prompt.
    """
    step = pass_time(decode, speed, constants, engine)
    prompt = prefill_seconds_of(prefill, pass_time(prefill, speed, constants, engine), constants)
    felt = constants.interference * (1 - engine.wave_share / 2)
    tpot = step.total + felt * prompt * running / output_tokens
    queue = engine.wave_share * (running - 1) / 2 * prompt
    ttft = constants.first_token_seconds + prompt + engine.admission_steps * step.total + queue
    ttft = ttft + (streams / running - 1) * (output_tokens * tpot + prompt)
    return SteadyState(ttft, tpot, step, prompt)
