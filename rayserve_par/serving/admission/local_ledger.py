"""The ledger with its messages inside one process: a replica's own, and the actor's core."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable

from rayserve_par.serving.admission.ledger import Answer, LedgerCore, Notice, Report


class LocalLedger:
    """A `Ledger`; belongs to one event loop."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, *, successor: bool = False
    ) -> None:
        self._clock = clock
        self.core = LedgerCore(uuid.uuid4().hex, successor=successor)
        self._mail: dict[str, list[Notice]] = {}
        self._arrived: dict[str, asyncio.Event] = {}

    async def exchange(self, report: Report) -> Answer:
        """Answer a report and notify whom it concerns."""
        answer, notices = self.core.exchange(self._clock(), report)
        for holder, news in notices.items():
            self._mail.setdefault(holder, []).extend(news)
            if holder in self._arrived:
                self._arrived[holder].set()
        return answer

    async def notices(self, holder: str, wait_seconds: float) -> tuple[Notice, ...]:
        """Wait for notices to `holder`."""
        if not self._mail.get(holder):
            arrived = self._arrived[holder] = asyncio.Event()
            try:
                async with asyncio.timeout(wait_seconds):
                    await arrived.wait()
            except TimeoutError:
                return ()
            finally:
                self._arrived.pop(holder, None)
        return tuple(self._mail.pop(holder, ()))

    def tick(self) -> bool:
        """Advance the book and drop the mail of those who left; whether anybody is there."""
        self.core.book.tick(self._clock())
        for holder in self._mail.keys() - set(self.core.book.holders):
            del self._mail[holder]
        return bool(self.core.book.holders)
