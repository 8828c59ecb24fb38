"""The scheduler in real time: one timer per step for all sequences, whatever their number.

A step ends when its time is over; the next one begins at that moment, not when the event loop got
round to it, so lateness does not add up and the throughput is that of the set times as long as the
machine keeps up on average. Consumers that are late get several tokens at once, as from vLLM.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field

from rayserve_par.serving.instance_counters import InstanceCounters
from rayserve_par.serving.mock_engine.scheduler import Request, Scheduler, Step, Token
from rayserve_par.serving.mock_engine.times import EngineTimes
from rayserve_par.serving.slo import EndedRequest

# Request ids of our own questions whether the engine generates; they count as nobody's requests.
PROBE_PREFIX = "probe-"


class EngineEndedError(RuntimeError):
    """The engine has ended; no request will get another token."""


@dataclass(frozen=True, slots=True)
class EngineListeners:
    """What is told of the engine's steps.

    on_tokens(): tokens were made. on_finished(request id, prompt tokens, output tokens): a request
    ended by itself. on_first_token(seconds since its arrival), on_ended(request): the same for
    metrics, without our own questions. `counters` gets everything that the controller is told.
    """

    on_tokens: Callable[[], None] = lambda: None
    on_finished: Callable[[str, int, int], None] = lambda _id, _prompt, _output: None
    on_first_token: Callable[[float], None] = lambda _seconds: None
    on_ended: Callable[[EndedRequest], None] = lambda _ended: None
    counters: InstanceCounters = field(default_factory=InstanceCounters)


class _Stream:
    """What one request's consumer waits on."""

    __slots__ = (
        "arrived", "cached", "count", "error", "finished", "first", "prompt_tokens", "waiter"
    )  # fmt: skip

    def __init__(self, prompt_tokens: int, arrived: float) -> None:
        self.prompt_tokens = prompt_tokens
        self.arrived = self.first = arrived
        self.count = 0
        self.cached = 0
        self.finished = False
        self.error: str | None = None
        self.waiter: asyncio.Future[None] | None = None

    def wake(self) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)


class MockEngine:
    """Runs a `Scheduler` on the event loop of the process."""

    def __init__(self, times: EngineTimes, listeners: EngineListeners | None = None) -> None:
        self.times = times
        self.scheduler = Scheduler(times)
        self._listeners = listeners or EngineListeners()
        self._streams: dict[str, _Stream] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._step: Step | None = None
        self._step_end = 0.0
        self._ended: str | None = None

    @property
    def errored(self) -> bool:
        """Whether the engine has ended."""
        return self._ended is not None

    async def check_health(self) -> None:
        """Whether the engine can generate. A replica puts its own in place of this one.

        Raises:
            EngineEndedError: it has ended.
        """
        self._check_lives()

    def _check_lives(self) -> None:
        if self._ended is not None:
            raise EngineEndedError(self._ended)

    async def generate(self, request: Request) -> AsyncGenerator[tuple[int, int], None]:
        """Yield (tokens made so far, cached prompt tokens); leaving the iterator frees the KV.

        Raises:
            EngineEndedError: the engine has ended.
            ValueError: the request can never fit.
        """
        self._check_lives()
        self.scheduler.add(request)
        now = asyncio.get_running_loop().time()
        stream = self._streams[request.request_id] = _Stream(request.prompt_tokens, now)
        if not request.request_id.startswith(PROBE_PREFIX):
            self._listeners.counters.on_arrived(time.time(), request.prompt_tokens)
        if self._timer is None:
            self._start_step(now)
        seen = 0
        try:
            while True:
                if stream.error is not None:
                    raise EngineEndedError(stream.error)
                if stream.count > seen:
                    seen = stream.count
                    yield seen, stream.cached
                if stream.finished and stream.count == seen:
                    return
                if stream.count == seen and stream.error is None:
                    stream.waiter = asyncio.get_running_loop().create_future()
                    await stream.waiter
        finally:
            self._streams.pop(request.request_id, None)
            self.scheduler.abort(request.request_id)

    def end(self, reason: str) -> None:
        """End for good: all streams fail."""
        self._ended = reason
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for stream in self._streams.values():
            stream.error = reason
            stream.wake()

    def _start_step(self, start: float) -> None:
        step = self.scheduler.start_step()
        if step is None:
            self._timer = None
            return
        self._step, self._step_end = step, start + step.seconds
        self._timer = asyncio.get_running_loop().call_at(self._step_end, self._finish_step)

    def _finish_step(self) -> None:
        try:
            self._deliver_step()
            self._start_step(self._step_end)
        except Exception as error:
            self.end(f"the scheduler failed: {error!r}")
            raise

    def _deliver_step(self) -> None:
        tokens = self.scheduler.finish_step()
        self._count_step()
        for token in tokens:
            stream = self._streams[token.request_id]
            stream.count, stream.finished, stream.cached = token.count, token.finished, token.cached
            stream.wake()
            self._count_token(token, stream)
            if token.finished:
                self._listeners.on_finished(token.request_id, stream.prompt_tokens, token.count)
        if tokens:
            self._listeners.on_tokens()

    def _count_step(self) -> None:
        step, counters, scheduler = self._step, self._listeners.counters, self.scheduler
        if step is not None:
            counters.on_step(step.seconds, step.prefill_tokens, step.decodes, step.context_tokens)
        counters.preemptions = scheduler.preemptions
        counters.prefix_queries = scheduler.prefix_query_tokens
        counters.prefix_hits = scheduler.prefix_hit_tokens

    def _count_token(self, token: Token, stream: _Stream) -> None:
        if token.request_id.startswith(PROBE_PREFIX):
            return
        now, counters = asyncio.get_running_loop().time(), self._listeners.counters
        if token.count == 1:
            stream.first = now
            counters.on_first_token(now - stream.arrived)
            self._listeners.on_first_token(now - stream.arrived)
        if token.finished:
            each = (now - stream.first) / max(1, token.count - 1)
            counters.on_ended(stream.prompt_tokens, token.count, each, 0.0)
            self._listeners.on_ended(
                EndedRequest(
                    reason="length",
                    output_tokens=token.count,
                    ttft_seconds=stream.first - stream.arrived,
                    tpot_seconds=each if token.count > 1 else None,
                )
            )
