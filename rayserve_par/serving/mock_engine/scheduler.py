"""Continuous batching, step by step, without a clock: state -> step -> state and tokens.

One step, in the order of vLLM's scheduler (vllm/v1/core/sched/scheduler.py):
1. Every running sequence gets its next tokens: one if it decodes, else as much of its prompt as
   the step's token budget leaves. Where blocks lack, the last running sequence is preempted: it
   gives all its blocks back and starts anew later.
2. If nobody was preempted, waiting sequences join while max_num_seqs, budget and blocks allow.
   Leading blocks that the cache has are not computed again, but the last token of a prompt always
   is: hits = floor((prompt - 1) / block) blocks at most.
3. After `EngineTimes.step_seconds`, each sequence whose tokens are all computed has one more.

Order: by arrival, under "priority" by (priority, arrival), lower first, both for joining and for
who keeps its blocks. Left out: speculative tokens, encoder inputs, LoRA, KV transfer.
"""

from __future__ import annotations

import heapq
from bisect import insort
from dataclasses import dataclass, field

from rayserve_par.serving.mock_engine.kv_cache import KvCache
from rayserve_par.serving.mock_engine.times import EngineTimes

Order = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Request:
    """What the scheduler needs of a request; `block_names` of prompt and answer together."""

    request_id: str
    prompt_tokens: int
    output_tokens: int
    block_names: tuple[bytes, ...]
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Token:
    """A sequence has its `count`-th token; `cached` prompt tokens were not computed."""

    request_id: str
    count: int
    finished: bool
    cached: int


@dataclass(frozen=True, slots=True)
class Step:
    """A step that runs: for how long and how much of what.

    `decodes` are sequences that compute their last token alone, `context_tokens` what these attend
    to.
    """

    seconds: float
    sequences: int
    prefill_tokens: int
    decodes: int = field(default=0, compare=False)
    context_tokens: int = field(default=0, compare=False)


@dataclass(slots=True, eq=False)
class _Sequence:
    request: Request
    order: Order
    computed: int = 0
    generated: int = 0
    cached: int | None = None
    scheduled: int = 0
    private: int = 0
    names: list[bytes] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        return self.request.prompt_tokens + self.generated

    @property
    def blocks(self) -> int:
        return len(self.names) + self.private

    def __lt__(self, other: _Sequence) -> bool:
        return self.order < other.order


class Scheduler:
    """The engine's state. Deterministic: the same calls give the same steps and tokens."""

    def __init__(self, times: EngineTimes) -> None:
        self.times = times
        self.cache = KvCache(times.kv_blocks)
        self.prefix_query_tokens = 0
        self.prefix_hit_tokens = 0
        self.preemptions = 0
        self._arrivals = 0
        self._waiting: list[_Sequence] = []
        self._running: list[_Sequence] = []
        self._sequences: dict[str, _Sequence] = {}
        self._in_step: list[_Sequence] | None = None

    @property
    def running(self) -> int:
        """Sequences that hold blocks."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Sequences that have yet to join, or to join again."""
        return len(self._waiting)

    @property
    def kv_usage(self) -> float:
        """Share of the blocks that sequences hold."""
        return self.cache.used_blocks / self.cache.blocks

    def add(self, request: Request) -> None:
        """Queue a request.

        Raises:
            ValueError: it can never fit, or its id is in use.
        """
        total = request.prompt_tokens + request.output_tokens
        if request.prompt_tokens < 1 or request.output_tokens < 1:
            raise ValueError(f"{request.prompt_tokens} + {request.output_tokens} tokens: both >= 1")
        if total > self.times.max_model_len:
            raise ValueError(f"{total} tokens are above max_model_len {self.times.max_model_len}")
        if request.request_id in self._sequences:
            raise ValueError(f"request id {request.request_id} is in use")
        by_priority = self.times.scheduling_policy == "priority"
        order = (request.priority if by_priority else 0, self._arrivals)
        self._arrivals += 1
        sequence = _Sequence(request, order)
        self._sequences[request.request_id] = sequence
        heapq.heappush(self._waiting, sequence)

    def abort(self, request_id: str) -> None:
        """Forget a request and free its blocks at once; unknown ids are ended ones."""
        sequence = self._sequences.pop(request_id, None)
        if sequence is None:
            return
        if sequence in self._running:
            self._running.remove(sequence)
            self._release(sequence)
        else:
            self._waiting.remove(sequence)
            heapq.heapify(self._waiting)

    def start_step(self) -> Step | None:
        """Choose who runs next; None if there is nobody."""
        if self._in_step is not None:
            raise RuntimeError("the last step has not been finished")
        budget = self.times.max_num_batched_tokens
        prefill = 0
        chosen: list[_Sequence] = []
        preempted = False
        position = 0
        while position < len(self._running) and budget > 0:
            sequence = self._running[position]
            count = min(sequence.tokens - sequence.computed, budget)
            needed = self.times.blocks_of(sequence.computed + count) - sequence.blocks
            while not self.cache.take(needed):
                preempted = True
                if self._preempt_last() is sequence:
                    break
            else:
                sequence.private += needed
                sequence.scheduled = count
                chosen.append(sequence)
                budget -= count
                prefill += _prefill_part(sequence)
                position += 1
        while self._waiting and not preempted and budget > 0:
            joined = self._join_next(budget)
            if joined is None:
                break
            chosen.append(joined)
            budget -= joined.scheduled
            prefill += _prefill_part(joined)
        if not chosen:
            return None
        self._in_step = chosen
        contexts = [one.computed for one in chosen if not _prefill_part(one)]
        return Step(
            seconds=self.times.step_seconds(len(chosen), prefill),
            sequences=len(chosen),
            prefill_tokens=prefill,
            decodes=len(contexts),
            context_tokens=sum(contexts),
        )

    def finish_step(self) -> tuple[Token, ...]:
        """The step's time is over: what it made."""
        if self._in_step is None:
            raise RuntimeError("no step runs")
        tokens = []
        for sequence in self._in_step:
            if self._sequences.get(sequence.request.request_id) is not sequence:
                continue  # aborted while the step ran
            self._advance(sequence)
            if sequence.computed < sequence.tokens:
                continue
            sequence.generated += 1
            request = sequence.request
            finished = sequence.generated == request.output_tokens
            if finished:
                self.abort(request.request_id)
            tokens.append(
                Token(request.request_id, sequence.generated, finished, sequence.cached or 0)
            )
        self._in_step = None
        return tuple(tokens)

    def _join_next(self, budget: int) -> _Sequence | None:
        """Let the first waiting sequence join, if there is room for it."""
        if len(self._running) >= self.times.max_num_seqs:
            return None
        sequence = self._waiting[0]
        size = self.times.block_tokens
        names: tuple[bytes, ...] = ()
        if self.times.enable_prefix_caching:
            names = sequence.request.block_names[: (sequence.tokens - 1) // size]
            names = names[: self.cache.found(names)]
        cached = len(names) * size
        count = min(sequence.tokens - cached, budget)
        private = self.times.blocks_of(cached + count) - len(names)
        if not self.cache.admit(names, private):
            return None
        heapq.heappop(self._waiting)
        sequence.names, sequence.private = list(names), private
        sequence.computed, sequence.scheduled = cached, count
        if sequence.cached is None:
            sequence.cached = min(cached, sequence.request.prompt_tokens)
            self.prefix_query_tokens += sequence.request.prompt_tokens
            self.prefix_hit_tokens += sequence.cached
        insort(self._running, sequence)
        return sequence

    def _advance(self, sequence: _Sequence) -> None:
        """Count the step's tokens as computed, and name the blocks that they filled."""
        size = self.times.block_tokens
        before = sequence.computed // size
        sequence.computed += sequence.scheduled
        if not self.times.enable_prefix_caching:
            return
        for name in sequence.request.block_names[before : sequence.computed // size]:
            if self.cache.publish(name):
                sequence.private -= 1
                sequence.names.append(name)

    def _preempt_last(self) -> _Sequence:
        sequence = self._running.pop()
        self._release(sequence)
        sequence.computed = 0
        self.preemptions += 1
        heapq.heappush(self._waiting, sequence)
        return sequence

    def _release(self, sequence: _Sequence) -> None:
        self.cache.release(sequence.names, sequence.private)
        sequence.names, sequence.private = [], 0


def _prefill_part(sequence: _Sequence) -> int:
    """Scheduled tokens that are no decode step; a preempted sequence computes its answer anew."""
    decodes = sequence.generated > 0 and sequence.scheduled == 1
    return 0 if decodes else sequence.scheduled
