"""Health of an instance: true only while its engine generates.

A step that made tokens within `interval_seconds` is proof enough; without one, a one-token request
must come back within `limit_seconds`. Questions wait for each other, and one answer serves all.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable


class GenerationProof:
    """Remembers when the engine last made a token, and asks it to where that is too long ago."""

    def __init__(
        self,
        generate: Callable[[], Awaitable[None]],
        *,
        interval_seconds: float = 10.0,
        limit_seconds: float = 20.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._generate = generate
        self._interval_seconds = interval_seconds
        self._limit_seconds = limit_seconds
        self._clock = clock
        self._last_step = float("-inf")
        self._asking = asyncio.Lock()

    def on_step(self) -> None:
        """The engine made a token just now."""
        self._last_step = self._clock()

    @property
    def fresh(self) -> bool:
        """Whether a token was made within the last interval."""
        return self._clock() - self._last_step <= self._interval_seconds

    async def prove(self) -> None:
        """Return once the engine is known to generate.

        Raises:
            TimeoutError: no token came back in time.
        """
        async with self._asking:
            if not self.fresh:
                await asyncio.wait_for(self._generate(), timeout=self._limit_seconds)
                self.on_step()
