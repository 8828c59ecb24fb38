"""Step times of engines that run here, as the simulator takes them; set, or fitted to a few probes.

    T(n, p) = base + n x each + p / prefill      the mock engine's formula (its module `times`)

A simulated step does not know how many prompts it computes, so n counts one for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import linear_regression, mean, median

from rayserve_par.control.simulate.request import Arrival
from rayserve_par.serving.mock_engine.times import EngineTimes


@dataclass(frozen=True, slots=True)
class SetTimes:
    """The step times of one instance; `front_seconds` is what the way there and back adds.

    `front_seconds_per_running` comes on top for every other request of the instance that gets
    tokens meanwhile, which server, proxy and client pass on with the same cores. The simulator
    knows no such thing; latency.py adds it.
    """

    base_seconds: float
    seconds_per_sequence: float
    prefill_tokens_per_second: float
    front_seconds: float = 0.0
    front_seconds_per_running: float = 0.0

    @property
    def dp(self) -> int:
        return 1

    @property
    def first_token_seconds(self) -> float:
        return self.front_seconds

    @property
    def latency_share(self) -> float:
        return 0.0

    def decode(self, batch: float, context_tokens: float) -> float:
        """A step of `batch` decodes; their context costs nothing here."""
        del context_tokens
        return self.base_seconds + batch * self.seconds_per_sequence

    def mixed(
        self, prompt_tokens: int, before_tokens: float, batch: int, context_tokens: float
    ) -> float:
        """A step with prompt tokens beside `batch` decodes."""
        del before_tokens
        prefill = prompt_tokens / self.prefill_tokens_per_second
        return self.decode(batch + 1, context_tokens) + prefill


@dataclass(frozen=True, slots=True)
class Probe:
    """A group of equal requests that were sent at once to one instance, alone; medians."""

    at_once: int
    isl: int
    ttft_seconds: float
    tpot_seconds: float


def times_of(mock: EngineTimes, probes: Sequence[Probe]) -> SetTimes:
    """A mock engine's own times; of the probes only what the front adds to a lone TTFT."""
    times = SetTimes(
        mock.step_base_seconds, mock.step_seconds_per_sequence, mock.prefill_tokens_per_second
    )
    return replace(times, front_seconds=_front(times, probes, mock.max_num_batched_tokens))


def fitted(probes: Sequence[Probe]) -> SetTimes:
    """Times of an engine of which nothing is known: straight lines through the probes.

    TTFT over ISL of lone requests gives the prefill's slope, TPOT over the number at once the
    decode's slope and base; what is left of the lone TTFT is the front's.
    """
    lone = [one for one in probes if one.at_once == 1]
    per_token, _ = linear_regression([one.isl for one in lone], [one.ttft_seconds for one in lone])
    each, base = linear_regression(
        [one.at_once for one in probes], [one.tpot_seconds for one in probes]
    )
    if per_token <= 0 or base <= 0:
        raise RuntimeError(
            f"probes make no sense: {1e6 * per_token:.1f} us a prompt token, {1e3 * base:.2f} ms a "
            "step; the machine was busy with something else. Run it again."
        )
    times = SetTimes(base, max(0.0, each), 1 / per_token)
    return replace(times, front_seconds=_front(times, probes, max(one.isl for one in probes)))


def _front(times: SetTimes, probes: Sequence[Probe], budget: int) -> float:
    """What a lone request's TTFT is above its prefill, in steps of at most `budget` tokens."""
    over = [
        one.ttft_seconds - lone_prefill(times, one.isl, budget)
        for one in probes
        if one.at_once == 1
    ]
    return max(0.0, median(over))


def lone_prefill(times: SetTimes, isl: int, budget: int) -> float:
    """Seconds of a prompt's steps, alone and in chunks of at most `budget` tokens."""
    return sum(
        times.mixed(min(budget, isl - begun), begun, 0, 0) for begun in range(0, isl, budget)
    )


def stretched(
    arrivals: Sequence[Arrival], times: SetTimes, instances: int, busy: float
) -> tuple[tuple[Arrival, ...], float]:
    """Arrivals in a time so long that steps with prompts take the share `busy` of all instances.

    Returns them with the factor that their times were multiplied by.
    """
    span = arrivals[-1].seconds - arrivals[0].seconds
    work = mean(times.mixed(one.isl, 0, 0, 0) for one in arrivals) * len(arrivals)
    factor = work / (instances * busy) / span
    first = arrivals[0].seconds
    return tuple(replace(one, seconds=(one.seconds - first) * factor) for one in arrivals), factor
