"""How much one instance carries within its limits, from its step times.

With B tokens in a step of a DP rank, I and O the ISL and OSL, L the TPOT limit, T a full step, p a
prompt's prefill, D(b) a decode step of b requests, and R the DP ranks:

A full step holds TPOT (T <= L), so that a queue delays first tokens only:
    b = B x O / (I + O),  T = M(B - b, b)           in a step of B tokens b are decodes
    rate = R x B / ((I + O) x T)
Otherwise, or where b is above what sequences and KV memory allow: the largest b with
    TPOT = D(b) + b x p / O <= L,  rate = b / (b x p + O x D(b))
which is the planner's steady state with every prefill felt in full (planning/performance).

A queue of x seconds of work is allowed as long as neither limit breaks by it:
    slack = TTFT limit - p of the longest usual prompt - T - first token
    and, where full steps break TPOT, (L - D) x O: that much prefill may fall into one answer

Left out: prefix hits, preemption, variance of OSL within one batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import exp, log
from typing import Protocol

from rayserve_par.errors import RefusedError

_LONG_PROMPT = 3.0
_LEAST_SLACK_SECONDS = 0.05
_FIXED_POINT_ROUNDS = 4
_BUDGET_STEP, _LEAST_BUDGET, _BUDGET_SHARE, _FEW_DECODES = 128, 256, 0.9, 16


class Times(Protocol):
    """Seconds of an engine's steps, as `StepTimes` gives them from the planner's model."""

    @property
    def dp(self) -> int:
        """DP ranks, among which an instance's requests are spread evenly."""
        ...

    @property
    def first_token_seconds(self) -> float:
        """What a first token takes outside of the engine's steps."""
        ...

    def decode(self, batch: float, context_tokens: float) -> float:
        """One step of `batch` decodes of the instance at this mean context."""
        ...

    def mixed(
        self, prompt_tokens: int, before_tokens: float, batch: int, context_tokens: float
    ) -> float:
        """One step with prompt tokens on the busiest DP rank beside `batch` decodes."""
        ...


@dataclass(frozen=True, slots=True)
class Capacity:
    """One instance under one kind of load.

    `requests_per_second` at which it is full, `prefill_share` of its time then, `slack_seconds` of
    queued work that its limits allow, `ttft_seconds` of a request that meets no queue,
    `tpot_seconds` when full.
    """

    isl: float
    osl: float
    requests_per_second: float
    prefill_share: float
    slack_seconds: float
    ttft_seconds: float
    tpot_seconds: float

    def work_seconds(self, requests: float, prompt_tokens: float) -> float:
        """Seconds that an instance needs for these requests.

        Prompts longer than usual weigh more, by the share of prefill in the instance's time.
        """
        usual = requests * (1 - self.prefill_share)
        by_length = prompt_tokens / self.isl * self.prefill_share
        return (usual + by_length) / self.requests_per_second


class InstanceModel:
    """An instance's engine with its limits, and the target it must keep."""

    def __init__(
        self,
        times: Times,
        *,
        kv_tokens: int,
        max_num_seqs: int,
        max_num_batched_tokens: int,
        ttft_limit: float,
        tpot_limit: float,
    ) -> None:
        """`kv_tokens`, `max_num_seqs` and `max_num_batched_tokens` of one DP rank; seconds."""
        self._times = times
        self._kv_tokens, self._most_seqs = kv_tokens, max_num_seqs
        self._budget = max_num_batched_tokens
        self.ttft_limit, self.tpot_limit = ttft_limit, tpot_limit
        self._capacity = lru_cache(maxsize=256)(self._compute)

    def capacity(self, isl: float, osl: float, slower: float = 1.0) -> Capacity:
        """The capacity at these mean lengths, step times multiplied by `slower`.

        Lengths are rounded to 2% and `slower` to 1%, so that little is computed twice.
        """
        return self._capacity(_rounded(isl), _rounded(osl), round(slower, 2))

    def least_times(self, isl: float) -> tuple[float, float]:
        """TTFT and TPOT of a request that is alone, in seconds: nothing is faster."""
        ttft = self._prefill(max(1, int(isl))) + self._times.first_token_seconds
        return ttft, self._times.decode(1, isl)

    def step_seconds(self, prompt_tokens: float, decodes: float, context_tokens: float) -> float:
        """A step of the instance with so many prompt tokens beside so many decodes."""
        if prompt_tokens < 1:
            return self._times.decode(max(1.0, decodes), context_tokens)
        share = max(1, round(prompt_tokens / self._times.dp))
        return self._times.mixed(share, 0.0, round(decodes), context_tokens)

    def tpot(self, requests_per_second: float, isl: float, osl: float) -> float:
        """Mean TPOT of one instance at this rate: the fixed point of b = rate x OSL x TPOT.

        Prefill takes the share rho = rate x p of the time and is felt in full, so
        TPOT = D(b) / (1 - rho); never above a full step where that holds the limit.
        """
        capacity = self.capacity(isl, osl)
        busy = min(0.98, requests_per_second * self._prefill(int(isl)) / self._times.dp)
        tpot = self._times.decode(1, isl + osl / 2)
        for _ in range(_FIXED_POINT_ROUNDS):
            batch = max(1.0, min(self._most_seqs, requests_per_second * osl * tpot))
            tpot = self._times.decode(batch, isl + osl / 2) / (1 - busy)
            if requests_per_second <= capacity.requests_per_second:
                tpot = min(tpot, capacity.tpot_seconds)
        return tpot

    def _prefill(self, tokens: int) -> float:
        """A prompt alone, in chunks of the budget."""
        whole, rest = divmod(max(1, tokens), self._budget)
        times = [self._times.mixed(self._budget, n * self._budget, 0, 0.0) for n in range(whole)]
        if rest:
            times.append(self._times.mixed(rest, whole * self._budget, 0, 0.0))
        return sum(times)

    def _compute(self, isl: float, osl: float, slower: float) -> Capacity:
        dp = self._times.dp
        context = isl + osl / 2
        most = min(self._most_seqs, self._kv_tokens / context) * dp
        prefill = self._prefill(int(isl)) * slower / dp
        decodes = self._budget * osl / (isl + osl) * dp
        prompt = max(1, self._budget - int(decodes / dp))
        full = self._times.mixed(prompt, isl / 2, max(1, int(decodes)), context) * slower
        alone = self._times.decode(1, context) * slower
        if alone > self.tpot_limit:
            raise RefusedError(
                f"TPOT <= {1e3 * self.tpot_limit:g} ms cannot be held: one request alone at "
                f"{context:,.0f} tokens of context takes {1e3 * alone:.1f} ms a token. Allow at "
                "least that, or take a layout with more TP."
            )
        full_holds = full <= self.tpot_limit and decodes <= most
        if full_holds:
            rate, tpot = dp * self._budget / ((isl + osl) * full), full
        else:
            rate, tpot = self._within_tpot(most, prefill, context, osl, slower)
        first = self._prefill(int(_LONG_PROMPT * isl)) * slower
        slack = self.ttft_limit - first - full - self._times.first_token_seconds
        if full > self.tpot_limit:
            slack = min(slack, (self.tpot_limit - alone) * osl)
        return Capacity(
            isl=isl,
            osl=osl,
            requests_per_second=rate,
            prefill_share=min(1.0, rate * prefill),
            slack_seconds=max(_LEAST_SLACK_SECONDS, slack),
            ttft_seconds=prefill * dp + self._times.first_token_seconds,
            tpot_seconds=tpot,
        )

    def _within_tpot(
        self, most: float, prefill: float, context: float, osl: float, slower: float
    ) -> tuple[float, float]:
        """The rate with the largest batch that keeps TPOT, and that TPOT."""
        low, high = 1, max(1, int(most))
        while low < high:
            middle = (low + high + 1) // 2
            tpot = self._times.decode(middle, context) * slower + middle * prefill / osl
            if tpot <= self.tpot_limit:
                low = middle
            else:
                high = middle - 1
        decode = self._times.decode(low, context) * slower
        rate = low / (low * prefill + osl * decode)
        return rate, decode + low * prefill / osl


def _rounded(value: float) -> float:
    """To 2%, at least 1."""
    return max(1.0, exp(round(log(max(1.0, value)) / 0.02) * 0.02))


def budget_within(times: Times, tpot_limit: float, isl: float, most: int) -> int:
    """The largest max_num_batched_tokens, in steps of 128, whose full step keeps TPOT.

    With a tenth to spare, so that prefill never breaks TPOT, whatever queues. At most `most`; also
    `most` where not even 256 tokens keep it, for then it is decodes that are slow.
    """
    for tokens in range(most - most % _BUDGET_STEP, _LEAST_BUDGET - 1, -_BUDGET_STEP):
        full = times.mixed(max(1, tokens - _FEW_DECODES), isl / 2, _FEW_DECODES, isl)
        if full <= _BUDGET_SHARE * tpot_limit:
            return tokens
    return most
