"""What one instance has done since it started, in sums that only grow; the controller takes
differences. Pure: the caller reads the clock.

Arrivals are counted when a request enters the engine: with its prompt's tokens, which admission
does not know, and before it queues, so that load is seen when it comes and not when it is served.
What admission turns away for want of room never gets there and is counted apart (`shed`).

`second` is a whole Unix second; `arrived` and `arrived_prompt_tokens` are sums up to its begin.
So the differences of two reports are whole seconds of arrivals, however late the reports are.

Steps are counted apart by whether they computed prompt tokens: sums of their number, seconds,
prompt tokens, decodes and context tokens, the last being what the decodes attended to. All are in
terms of the whole instance: an engine that is one of n DP ranks counts n times what it did.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Self


@dataclass(frozen=True, slots=True)
class InstanceReport:
    """One report. All sums since the start but `running`, `waiting` and `kv_use`, which are now.

    `begun` is the Unix second in which counting began, `start_seconds` what the engine's start
    took. TTFT, TPOT and queue times are sums over `first_tokens`, `paced` and `ended` requests.
    """

    second: float = 0.0
    begun: float = 0.0
    arrived: float = 0.0
    arrived_prompt_tokens: float = 0.0
    shed: float = 0.0
    ended: float = 0.0
    ended_prompt_tokens: float = 0.0
    ended_output_tokens: float = 0.0
    queued_seconds: float = 0.0
    first_tokens: float = 0.0
    ttft_seconds: float = 0.0
    paced: float = 0.0
    tpot_seconds: float = 0.0
    decode_steps: float = 0.0
    decode_step_seconds: float = 0.0
    decode_step_decodes: float = 0.0
    decode_step_context_tokens: float = 0.0
    prefill_steps: float = 0.0
    prefill_step_seconds: float = 0.0
    prefill_step_prompt_tokens: float = 0.0
    prefill_step_decodes: float = 0.0
    prefill_step_context_tokens: float = 0.0
    preemptions: float = 0.0
    prefix_queries: float = 0.0
    prefix_hits: float = 0.0
    running: float = 0.0
    waiting: float = 0.0
    kv_use: float = 0.0
    start_seconds: float = 0.0

    def as_floats(self) -> dict[str, float]:
        """As Ray Serve's `record_autoscaling_stats` is to return it."""
        return asdict(self)

    @classmethod
    def from_floats(cls, found: Mapping[str, float]) -> Self:
        """The reverse of `as_floats`; what is missing is 0, what is unknown left aside."""
        return cls(**{name: float(found[name]) for name in REPORTED if name in found})


REPORTED = tuple(one.name for one in fields(InstanceReport))


@dataclass(slots=True)
class StepSums:
    """Sums over engine steps of one kind."""

    count: int = 0
    seconds: float = 0.0
    prompt_tokens: float = 0.0
    decodes: float = 0.0
    context_tokens: float = 0.0


@dataclass(slots=True)
class InstanceCounters:
    """The sums, fed by the engine since the Unix second `begun`."""

    begun: int = 0
    ended: int = 0
    ended_prompt_tokens: int = 0
    ended_output_tokens: int = 0
    queued_seconds: float = 0.0
    first_tokens: int = 0
    ttft_seconds: float = 0.0
    paced: int = 0
    tpot_seconds: float = 0.0
    preemptions: int = 0
    prefix_queries: int = 0
    prefix_hits: int = 0
    decode_steps: StepSums = field(default_factory=StepSums)
    prefill_steps: StepSums = field(default_factory=StepSums)
    _second: int = 0
    _arrived: int = 0
    _arrived_tokens: int = 0
    _arrived_before: int = 0
    _tokens_before: int = 0

    def on_arrived(self, now_seconds: float, prompt_tokens: int) -> None:
        """A request enters the engine."""
        if int(now_seconds) != self._second:
            self._turn(int(now_seconds))
        self._arrived += 1
        self._arrived_tokens += prompt_tokens

    def on_first_token(self, ttft_seconds: float) -> None:
        """A request has its first token."""
        self.first_tokens += 1
        self.ttft_seconds += ttft_seconds

    def on_ended(
        self, prompt_tokens: int, output_tokens: int, tpot_seconds: float, queued_seconds: float
    ) -> None:
        """A request ended; `tpot_seconds` is 0 where it has one token or none."""
        self.ended += 1
        self.ended_prompt_tokens += prompt_tokens
        self.ended_output_tokens += output_tokens
        self.queued_seconds += max(0.0, queued_seconds)
        if output_tokens > 1 and tpot_seconds > 0:
            self.paced += 1
            self.tpot_seconds += tpot_seconds

    def on_step(
        self, seconds: float, prompt_tokens: float, decodes: float, context_tokens: float
    ) -> None:
        """The engine made a step."""
        sums = self.prefill_steps if prompt_tokens else self.decode_steps
        sums.count += 1
        sums.seconds += seconds
        sums.prompt_tokens += prompt_tokens
        sums.decodes += decodes
        sums.context_tokens += context_tokens

    def report(
        self,
        now_seconds: float,
        *,
        shed: int,
        running: int,
        waiting: int,
        kv_use: float,
        start_seconds: float,
    ) -> InstanceReport:
        """Everything as of now."""
        if int(now_seconds) != self._second:
            self._turn(int(now_seconds))
        decode, prefill = self.decode_steps, self.prefill_steps
        return InstanceReport(
            second=self._second,
            begun=self.begun,
            arrived=self._arrived_before,
            arrived_prompt_tokens=self._tokens_before,
            shed=shed,
            ended=self.ended,
            ended_prompt_tokens=self.ended_prompt_tokens,
            ended_output_tokens=self.ended_output_tokens,
            queued_seconds=self.queued_seconds,
            first_tokens=self.first_tokens,
            ttft_seconds=self.ttft_seconds,
            paced=self.paced,
            tpot_seconds=self.tpot_seconds,
            decode_steps=decode.count,
            decode_step_seconds=decode.seconds,
            decode_step_decodes=decode.decodes,
            decode_step_context_tokens=decode.context_tokens,
            prefill_steps=prefill.count,
            prefill_step_seconds=prefill.seconds,
            prefill_step_prompt_tokens=prefill.prompt_tokens,
            prefill_step_decodes=prefill.decodes,
            prefill_step_context_tokens=prefill.context_tokens,
            preemptions=self.preemptions,
            prefix_queries=self.prefix_queries,
            prefix_hits=self.prefix_hits,
            running=running,
            waiting=waiting,
            kv_use=kv_use,
            start_seconds=start_seconds,
        )

    def _turn(self, second: int) -> None:
        """A new second has begun; where the clock was set back, it counts from there."""
        self._second = second
        self._arrived_before = self._arrived
        self._tokens_before = self._arrived_tokens
