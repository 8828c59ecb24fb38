"""The ledger as one named, detached Ray actor, and how a replica reaches it: one for each
application, or for all applications of a pool (`own_share.limits_of`).

The actor takes no CPU, sits outside any placement group (it must outlive the replica that made it)
and ends itself when no replica has reported for `_LEAVE_SECONDS`. Ray starts it anew when its
process or node dies; a replica makes a new one when that has failed.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import ray
from ray.exceptions import RayError

from rayserve_par.serving.admission.ledger import Answer, Notice, Report
from rayserve_par.serving.admission.local_ledger import LocalLedger

NAMESPACE = "rayserve_par_admission"
_VERSION = 3  # of the messages; replicas of different releases keep different ledgers
_LEAVE_SECONDS = 120.0
_TICK_SECONDS = 0.5
_ANSWER_SECONDS = 1.0


class LedgerActor:
    """Holds the leases of one application, or of one pool of them, in memory."""

    def __init__(self, successor: bool) -> None:
        restarted = ray.get_runtime_context().was_current_actor_reconstructed
        self._ledger = LocalLedger(successor=successor or restarted)
        self._quiet_since = time.monotonic()
        self._ticking: asyncio.Task[None] | None = None

    async def exchange(self, report: Report) -> Answer:
        """Answer a replica's report and notify whom it concerns."""
        if self._ticking is None:
            self._ticking = asyncio.create_task(self._tick())
        return await self._ledger.exchange(report)

    async def notices(self, holder: str, wait_seconds: float) -> tuple[Notice, ...]:
        """Wait for notices to `holder`."""
        return await self._ledger.notices(holder, wait_seconds)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            now = time.monotonic()
            if self._ledger.tick():
                self._quiet_since = now
            elif now - self._quiet_since > _LEAVE_SECONDS:
                ray.kill(ray.get_runtime_context().current_actor, no_restart=True)


def actor_name(limits_of: str) -> str:
    """The ledger's name in its namespace."""
    return f"ledger of {limits_of}, v{_VERSION}"


class RayLedger:
    """The ledger of those whose limits are `limits_of`, made where it is not there."""

    def __init__(self, limits_of: str) -> None:
        self._name = actor_name(limits_of)
        self._actor: Any = None
        self._had_one = False
        self._connecting = asyncio.Lock()

    async def exchange(self, report: Report) -> Answer:
        """Report and ask.

        Raises:
            ConnectionError: the ledger is gone or does not answer.
        """
        answer: Answer = await self._call("exchange", _ANSWER_SECONDS, report)
        return answer

    async def notices(self, holder: str, wait_seconds: float) -> tuple[Notice, ...]:
        """Wait for what the ledger wants of `holder`.

        Raises:
            ConnectionError: the ledger is gone or does not answer.
        """
        limit = wait_seconds + _ANSWER_SECONDS
        news: tuple[Notice, ...] = await self._call("notices", limit, holder, wait_seconds)
        return news

    async def _call(self, method: str, limit_seconds: float, *arguments: Any) -> Any:
        actor = await self._connected()
        try:
            async with asyncio.timeout(limit_seconds):
                return await getattr(actor, method).remote(*arguments)
        except RayError as error:
            if self._actor is actor:
                self._actor = None
            raise ConnectionError(f"The ledger of limits is gone: {error}") from error
        except TimeoutError as error:
            raise ConnectionError("The ledger of limits does not answer.") from error

    async def _connected(self) -> Any:
        async with self._connecting:
            if self._actor is None:
                try:
                    # Looking up and making an actor block.
                    self._actor = await asyncio.to_thread(self._get_or_make)
                except (RayError, ValueError, RuntimeError) as error:
                    raise ConnectionError(f"No ledger of limits: {error}") from error
                self._had_one = True
            return self._actor

    def _get_or_make(self) -> Any:
        return (
            ray.remote(LedgerActor)
            .options(
                name=self._name,
                namespace=NAMESPACE,
                lifetime="detached",
                get_if_exists=True,
                num_cpus=0,
                max_restarts=-1,
                scheduling_strategy="DEFAULT",
            )
            .remote(successor=self._had_one)
        )
