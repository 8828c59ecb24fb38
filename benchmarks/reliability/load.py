"""N clients at work over real HTTP, in a thread of their own, until told to stop.

Each client keeps its connection, sends its next request when the last is over, and waits a moment
after one that was not accepted. Lengths and sorts of requests differ by seed, so that at any moment
some requests are starting, some are in the middle and some are ending.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from benchmarks.reliability.exchange import Ask, ask_stream, client_session
from benchmarks.reliability.outcome import Kind, Request

_PROMPT_NUMBERS = 12


@dataclass(frozen=True, slots=True)
class Shape:
    """What each client sends: lengths in `tokens` (least, most), and each sort by its weight."""

    tokens: tuple[int, int] = (200, 500)
    mix: tuple[tuple[Ask, float], ...] = ((ask_stream, 1.0),)
    pause_seconds: float = 0.5
    silence_seconds: float = 30.0


def prompts(seed: int) -> Iterator[str]:
    """Endless different prompts; the same for the same seed."""
    chosen = random.Random(seed)
    while True:
        yield " ".join(str(chosen.randrange(1000)) for _ in range(_PROMPT_NUMBERS))


@dataclass(slots=True)
class Load:
    """Context manager: `clients` at work inside; `finish()` returns all their requests.

    left: requests that their clients left by their own will; they are in no other count.
    """

    url: str
    model: str
    clients: int
    shape: Shape = field(default_factory=Shape)
    seed: int = 1
    done: list[Request] = field(default_factory=list)
    left: int = 0
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _error: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._work, name="load", daemon=True)
        self._thread.start()
        return self

    def finish(self) -> Sequence[Request]:
        """Send nothing more, wait until every open request is over, and return all.

        Raises:
            BaseException: what ended the load, where it was not a connection's error.
        """
        self._stop()
        self.raise_error()
        return tuple(self.done)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def wait_for(self, accepted: int, seconds: float) -> None:
        """Wait until so many requests have been accepted.

        Raises:
            TimeoutError: they were not in time.
        """
        end = time.monotonic() + seconds
        while sum(request.kind is Kind.ACCEPTED for request in tuple(self.done)) < accepted:
            self.raise_error()
            if time.monotonic() > end:
                raise TimeoutError(f"{accepted} requests were not accepted in {seconds:.0f} s")
            time.sleep(0.1)

    def _stop(self) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        try:
            asyncio.run(self._run())
        except BaseException as error:
            self._error = error

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(self.clients):
                group.create_task(self._client(number))

    async def _client(self, number: int) -> None:
        seed = self.seed * 1000 + number
        chosen, texts = random.Random(seed), prompts(seed)
        asks = [ask for ask, _ in self.shape.mix]
        weights = [weight for _, weight in self.shape.mix]
        async with client_session(self.shape.silence_seconds) as session:
            while not self._over.is_set():
                [ask] = chosen.choices(asks, weights)
                tokens = chosen.randint(*self.shape.tokens)
                request = await ask(session, self.url, self.model, next(texts), tokens)
                if request is None:
                    self.left += 1
                    continue
                self.done.append(request)
                if request.kind is not Kind.ACCEPTED:
                    await asyncio.sleep(self.shape.pause_seconds)
