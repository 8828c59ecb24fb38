"""A mock instance with the face of `vllm_bridge.instance.Instance`, for a Serve replica to hold.

It needs no rank, no GPU and no time to start; everything in front of it is the real thing.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from starlette.applications import Starlette
from starlette.routing import Mount

from rayserve_par.serving.admission.concurrency import EngineLoad
from rayserve_par.serving.mock_engine.api import MockApi
from rayserve_par.serving.mock_engine.engine import (
    PROBE_PREFIX,
    EngineListeners,
    MockEngine,
)
from rayserve_par.serving.mock_engine.scheduler import Request
from rayserve_par.serving.mock_engine.status import EngineStatus
from rayserve_par.serving.mock_engine.times import EngineTimes

_WATCH_SECONDS = 0.5


@dataclass(slots=True)
class MockInstance:
    """A started mock instance; `closing` tells its watch that the end is wanted."""

    names: tuple[str, ...]
    engine: MockEngine
    start_seconds: float
    closing: bool = False
    api: MockApi = field(init=False)

    def __post_init__(self) -> None:
        self.api = MockApi(self.engine, self.names)

    async def build_asgi_app(self) -> Starlette:
        """The OpenAI app, to which middleware can be added as to vLLM's."""
        return Starlette(routes=[Mount("/", app=self.api)])

    def engine_load(self) -> EngineLoad:
        """The engine's load now, for the admission."""
        scheduler = self.engine.scheduler
        return EngineLoad(scheduler.running, scheduler.waiting, scheduler.kv_usage)

    @property
    def max_num_seqs(self) -> int:
        """Requests that run at once."""
        return self.engine.times.max_num_seqs

    @property
    def status(self) -> EngineStatus:
        """The engine's load and prefix counters now."""
        return self.api.status

    async def generate_one_token(self) -> None:
        """Prove that the engine generates; no prefix is cached by it."""
        probe = Request(f"{PROBE_PREFIX}{uuid.uuid4().hex}", 1, 1, ())
        async with aclosing(self.engine.generate(probe)) as made:
            async for _ in made:
                pass

    @property
    def failed(self) -> bool:
        """Whether the engine has ended."""
        return self.engine.errored

    def watch(self, on_end: Callable[[str], None]) -> None:
        """Call `on_end(reason)` from a thread of its own when the engine ends."""

        def wait_for_end() -> None:
            while not self.closing and not self.failed:
                time.sleep(_WATCH_SECONDS)
            if not self.closing:
                on_end("the mock engine ended")

        threading.Thread(target=wait_for_end, daemon=True, name="mock-watch").start()

    def shutdown(self) -> None:
        """End the engine; safe to call twice."""
        self.closing = True
        self.engine.end("the instance shuts down")


async def start_mock_instance(
    names: Sequence[str], times: EngineTimes, listeners: EngineListeners | None = None
) -> MockInstance:
    """Start a mock instance and prove that it generates."""
    started = time.monotonic()
    instance = MockInstance(tuple(names), MockEngine(times, listeners), start_seconds=0.0)
    await instance.generate_one_token()
    instance.start_seconds = time.monotonic() - started
    return instance
