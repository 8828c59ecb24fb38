"""One instance's engine: continuous batching with chunked prefill, advanced in phases.

A phase is a step with prefill, or as many decode steps in a row as change nothing: until the first
request ends, KV memory is full, or a request arrives that can be taken. n decode steps of b
requests whose mean context is c at first take n x D(b, c + (n - 1) / 2): D is straight in c.

A step is filled as vLLM's scheduler does: every decode one token, then the prompt that was begun,
then waiting ones in order, up to `max_num_batched_tokens` on a DP rank, `max_num_seqs`, and the KV
memory that is free. A prompt is taken when the whole of it has room. Where decodes outgrow the
memory the request taken last is put back to the front and later prefilled anew, with the tokens
it has made. With DP the ranks share requests evenly and a step waits for the busiest rank.

Source: vllm/v1/core/sched/scheduler.py (`schedule`), release 0.32.
Left out: prefix caching, speculative decoding, block rounding, priorities.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from math import ceil
from typing import Protocol

from rayserve_par.control.decide.state import Steps
from rayserve_par.control.instance_model import capacity
from rayserve_par.control.simulate.request import Request


class Times(capacity.Times, Protocol):
    """How long an engine's steps take, and what else a simulated one must know of them."""

    @property
    def latency_share(self) -> float:
        """Share of a prefill that delays its own first token but no other request."""
        ...


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """Of one DP rank: KV tokens, sequences at once, and tokens of one step."""

    kv_tokens: int
    max_num_seqs: int
    max_num_batched_tokens: int


class StepTally:
    """Sums over the phases of all engines that share it, by kind of step; read and cleared."""

    __slots__ = ("decode", "prefill")

    def __init__(self) -> None:
        self.decode = [0, 0.0, 0.0, 0.0, 0.0]
        self.prefill = [0, 0.0, 0.0, 0.0, 0.0]

    def taken(self) -> tuple[Steps, Steps]:
        """Steps without and with prompt tokens since the last call."""
        decode, prefill = self.decode, self.prefill
        self.decode, self.prefill = [0, 0.0, 0.0, 0.0, 0.0], [0, 0.0, 0.0, 0.0, 0.0]
        return _steps(decode), _steps(prefill)


def _steps(sums: list[float]) -> Steps:
    return Steps(int(sums[0]), sums[1], sums[2], sums[3], sums[4])


class Engine:
    """The engine of one instance. `end_seconds` is when its phase ends; None while it is idle."""

    __slots__ = (
        "_budget",
        "_context_sum",
        "_count",
        "_decodes",
        "_dp",
        "_most_seqs",
        "_new",
        "_order",
        "_partial",
        "_phase_start",
        "_phase_steps",
        "_prompt_tokens",
        "_step_seconds",
        "_tally",
        "_times",
        "busy_seconds",
        "end_seconds",
        "kv_limit",
        "kv_tokens",
        "version",
        "waiting",
    )

    def __init__(self, times: Times, limits: EngineLimits, tally: StepTally) -> None:
        self._times = times
        self._tally = tally
        self._prompt_tokens = 0
        self._dp = times.dp
        self._budget = limits.max_num_batched_tokens
        self._most_seqs = limits.max_num_seqs * self._dp
        self.kv_limit = limits.kv_tokens * self._dp
        self.kv_tokens = 0
        self.waiting: deque[Request] = deque()
        self._partial: Request | None = None
        self._new: list[Request] = []
        self._decodes: list[tuple[int, int, Request]] = []
        self._context_sum = 0
        self._count = 0
        self._order = 0
        self._phase_start = 0.0
        self._phase_steps = 0
        self._step_seconds = 0.0
        self.end_seconds: float | None = None
        self.version = 0
        self.busy_seconds = 0.0

    @property
    def running(self) -> int:
        """Requests in the batch, those in prefill included."""
        return len(self._decodes) + len(self._new) + (self._partial is not None)

    @property
    def empty(self) -> bool:
        """Whether it has nothing to do."""
        return not self.running and not self.waiting

    @property
    def queued_prompt_tokens(self) -> int:
        """Prompt tokens that are not yet prefilled."""
        waiting = sum(one.prompt for one in self.waiting)
        begun = self._partial
        return waiting + (begun.prompt - begun.prefilled if begun is not None else 0)

    def requests(self) -> list[Request]:
        """Every request that it holds, oldest first in its part."""
        begun = [] if self._partial is None else [self._partial]
        return [*(one for _, _, one in self._decodes), *self._new, *begun, *self.waiting]

    def add(self, request: Request, now: float) -> bool:
        """Queue a request. True where that changed when the phase ends."""
        self.waiting.append(request)
        if self.end_seconds is None:
            self.start(now)
            return True
        if self._phase_steps <= 1 or len(self.waiting) > 1:
            return False
        if not self._has_room(request, len(self._decodes)):
            return False
        # Decodes in a row stop at the end of the step that is under way.
        done = max(1, ceil((now - self._phase_start) / self._step_seconds))
        if done >= self._phase_steps:
            return False
        self._phase_steps = done
        self.end_seconds = self._phase_start + done * self._step_seconds
        self.version += 1
        return True

    def start(self, now: float) -> None:
        """Begin the next phase; `end_seconds` is None where there is nothing to do."""
        self.version += 1
        decodes = self._decodes
        if decodes and self.kv_tokens + len(decodes) > self.kv_limit:
            self._preempt()
        batch = len(decodes)
        tokens, largest, before = self._take_prompts(batch)
        self._phase_start = now
        self._prompt_tokens = tokens
        if tokens:
            share = max(largest, -(-tokens // self._dp))
            context = self._context_sum / batch if batch else 0.0
            self._step_seconds = self._times.mixed(share, before / tokens, batch, context)
            self._phase_steps = 1
        elif batch:
            steps = decodes[0][0] - self._count
            room = self.kv_limit - self.kv_tokens
            if steps * batch > room:
                steps = max(1, room // batch)
            context = self._context_sum / batch + (steps - 1) / 2
            self._step_seconds = self._times.decode(batch, context)
            self._phase_steps = steps
        else:
            self._phase_steps = 0
            self.end_seconds = None
            return
        self.end_seconds = now + self._phase_steps * self._step_seconds

    def _take_prompts(self, batch: int) -> tuple[int, int, float]:
        """Fill the step: prompt tokens in all, of the largest chunk, and tokens x those before."""
        total = (self._budget - -(-batch // self._dp)) * self._dp
        left, largest, before = total, 0, 0.0
        one = self._partial
        while left > 0:
            if one is None:
                if not self.waiting or batch + len(self._new) >= self._most_seqs:
                    break
                one = self.waiting[0]
                if not self._has_room(one, batch):
                    break
                self.waiting.popleft()
                self.kv_tokens += one.prompt + 1
            chunk = min(left, one.prompt - one.prefilled, self._budget)
            before += chunk * one.prefilled
            largest = max(largest, chunk)
            left -= chunk
            one.prefilled += chunk
            if one.prefilled < one.prompt:
                self._partial = one
                break
            self._new.append(one)
            self._partial = one = None
        return total - left, largest, before

    def _has_room(self, request: Request, batch: int) -> bool:
        """Whether the prompt, its first token, and one more of every decode fit."""
        return self.kv_tokens + request.prompt + 1 + batch <= self.kv_limit

    def _preempt(self) -> None:
        """Put decodes back, those taken last first, until the next step has room."""
        decodes = self._decodes
        least = 0 if self._partial is not None else 1
        while len(decodes) > least and self.kv_tokens + len(decodes) > self.kv_limit:
            entry = max(decodes, key=lambda one: one[1])
            decodes.remove(entry)
            request = entry[2]
            context = self._context_of(request)
            self.kv_tokens -= context
            self._context_sum -= context
            request.prompt, request.prefilled = context, 0
            request.preemptions += 1
            self.waiting.appendleft(request)
        heapify(decodes)

    def _context_of(self, request: Request) -> int:
        return request.isl + request.osl - (request.stop_count - self._count)

    def finish(self, now: float) -> list[Request]:
        """End the phase at `now`; the requests that ended with it, which know their times."""
        steps, batch = self._phase_steps, len(self._decodes)
        self.busy_seconds += now - self._phase_start
        sums = self._tally.prefill if self._prompt_tokens else self._tally.decode
        sums[0] += steps
        sums[1] += now - self._phase_start
        sums[2] += self._prompt_tokens
        sums[3] += steps * batch
        sums[4] += steps * (self._context_sum + batch * (steps - 1) / 2)
        self._count += steps
        self._context_sum += steps * batch
        self.kv_tokens += steps * batch
        count, ended = self._count, []
        while self._decodes and self._decodes[0][0] <= count:
            request = heappop(self._decodes)[2]
            request.end_seconds = now + self._times.first_token_seconds
            context = request.isl + request.osl
            self.kv_tokens -= context
            self._context_sum -= context
            ended.append(request)
        if self._new:
            self._prompts_done(now, ended)
        return ended

    def _prompts_done(self, now: float, ended: list[Request]) -> None:
        late = self._step_seconds * self._times.latency_share / (1 - self._times.latency_share)
        for request in self._new:
            if request.first_seconds is None:
                request.first_seconds = now + late + self._times.first_token_seconds
            made = request.prompt - request.isl + 1
            left = request.osl - made
            if left <= 0:
                request.end_seconds = now + late + self._times.first_token_seconds
                self.kv_tokens -= request.prompt + 1
                ended.append(request)
                continue
            self._order += 1
            request.stop_count = self._count + left
            self._context_sum += request.prompt + 1
            heappush(self._decodes, (request.stop_count, self._order, request))
        self._new.clear()
