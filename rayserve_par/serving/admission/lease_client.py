"""A replica's side of quota leases: admit from what is leased here, ask the ledger otherwise.

    take      all units of a request from local leases: no waiting, no message
    obtain    the same; what is short is asked of the ledger, `_WAIT_SECONDS` at most
    release   a slot's use ends; charge: a bucket pays for what a request really took

Asks and reports go one at a time, so that the ledger and the replica never disagree about a grant
under way; those who come meanwhile share the next one. A refusal holds for `_REFUSAL_SECONDS`
here, so that a key beyond its limit costs the ledger at most 20 messages a second from a replica.

In the background, once a second: report what changed (which also renews the leases), return what
was idle for `_IDLE_SECONDS`. Leases not renewed for `_VALID_SECONDS` (half the ledger's TTL, and
counted from before the message, so the replica always stops first) are void. Without a ledger each
replica serves its own share (`own_share`) until it is back; the log says so. The spending of that
time is not charged later. Among how many it shares, the ledger said last; before it said anything,
and while it is gone, `look` says so, which is asked in a thread.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rayserve_par.serving.admission.lease_book import PoolSpec
from rayserve_par.serving.admission.ledger import Answer, Ask, Holding, Ledger, Notice, Report
from rayserve_par.serving.admission.own_share import OwnShare

logger = logging.getLogger("ray.serve")

_WAIT_SECONDS = 0.25
_VALID_SECONDS = 3.0
_RENEW_SECONDS = 1.0
_IDLE_SECONDS = 10.0
_REFUSAL_SECONDS = 0.05
_TRIES_AT_START = 5


@dataclass(frozen=True, slots=True)
class Use:
    """What a request needs of a pool: a unit, or (`later`) only that there is one."""

    spec: PoolSpec
    later: bool = False


@dataclass(frozen=True, slots=True)
class Shortage:
    """The pool that had no unit, and when to try again."""

    spec: PoolSpec
    retry_after_seconds: float


@dataclass(slots=True)
class _Local:
    spec: PoolSpec
    used_at: float
    idle: float = 0.0
    in_use: int = 0
    returned: float = 0.0
    owed: int = 0
    wanted: int = 0
    changed: bool = True
    pending_until: float = 0.0
    refused_until: float = 0.0
    retry_after_seconds: float = 1.0
    news: asyncio.Future[None] | None = None

    def wake(self) -> None:
        if self.news is not None and not self.news.done():
            self.news.set_result(None)
        self.news = None

    def give_back_idle(self) -> None:
        if self.idle > 0:
            if not self.spec.is_slots:
                self.returned += self.idle
            self.idle = 0.0
            self.changed = True


class LeaseClient:
    """All leases of one replica; belongs to one event loop.

    look: this replica's share now, from elsewhere than the ledger; may block and raise.
    """

    def __init__(
        self,
        ledger: Ledger,
        holder: str,
        *,
        look: Callable[[], OwnShare] = OwnShare,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._holder = holder
        self._look_blocking = look
        self._looking: asyncio.Task[None] | None = None
        self._own = OwnShare()
        self._clock = clock
        self._pools: dict[str, _Local] = {}
        self._alone = True
        self._alone_at = clock()
        self._valid_until = 0.0
        self._ledger_id = ""
        self._report_now = False
        self._lock = asyncio.Lock()
        self._asking: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def alone(self) -> bool:
        """Whether this replica serves by its own share, without the ledger."""
        return self._alone

    async def start(self) -> None:
        """Join the ledger, or serve alone if it does not come, and keep the leases from now on."""
        self._look_soon()
        for attempt in range(_TRIES_AT_START):
            await asyncio.sleep(_RENEW_SECONDS / 2 if attempt else 0)
            await self._exchange()
            if not self._alone:
                break
        self._tasks = [asyncio.create_task(self._renew()), asyncio.create_task(self._listen())]

    async def stop(self) -> None:
        """End all messages; the ledger takes back what is not renewed."""
        tasks = [task for task in (*self._tasks, self._asking, self._looking) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def take(self, uses: Sequence[Use]) -> bool:
        """Take what a request needs if all of it is here."""
        now = self._clock()
        if self._alone or now > self._valid_until:
            self._serve_alone(now)
        for use in uses:
            if self._local(use.spec).idle < 1:
                return False
        for use in uses:
            local = self._pools[use.spec.name]
            local.used_at = now
            if not use.later:
                local.idle -= 1
                local.changed = True
                if use.spec.is_slots:
                    local.in_use += 1
        return True

    async def obtain(self, uses: Sequence[Use]) -> Shortage | None:
        """Take what a request needs, asking the ledger for what is short."""
        end = self._clock() + _WAIT_SECONDS
        while not self.take(uses):
            local = next(local for use in uses if (local := self._pools[use.spec.name]).idle < 1)
            now = self._clock()
            if self._alone or now < local.refused_until or now >= end:
                return Shortage(local.spec, self._retry_after(local))
            if local.news is None:
                local.news = asyncio.get_running_loop().create_future()
            local.wanted += 1
            try:
                self._ask_soon()
                await asyncio.wait({local.news}, timeout=end - now)
            finally:
                local.wanted -= 1
        return None

    def release(self, spec: PoolSpec) -> None:
        """The use of a slot has ended."""
        local = self._local(spec)
        local.in_use -= 1
        local.changed = True
        if self._alone:
            return
        if local.owed > 0:
            local.owed -= 1
            self._report_soon()
        else:
            local.idle += 1
            local.wake()

    def refund(self, uses: Sequence[Use]) -> None:
        """What was taken for a request that is refused after all."""
        for use in uses:
            if use.spec.is_slots:
                self.release(use.spec)
            elif not use.later:
                self._local(use.spec).idle += 1

    def charge(self, spec: PoolSpec, units: int) -> None:
        """A bucket pays `units`; what is not here becomes debt at the ledger."""
        local = self._local(spec)
        local.idle -= units
        local.changed = True
        if local.idle < 0 and not self._alone:
            self._report_soon()

    def _local(self, spec: PoolSpec) -> _Local:
        local = self._pools.get(spec.name)
        if local is None:
            local = self._pools[spec.name] = _Local(spec, self._clock())
            if self._alone:
                local.idle = self._own.units(spec.capacity)
        elif local.spec is not spec:
            local.spec, local.changed = spec, True
        return local

    def _retry_after(self, local: _Local) -> float:
        if not self._alone or local.spec.is_slots:
            return local.retry_after_seconds
        return (1 - local.idle) / self._own.refill_per_second(local.spec.refill_per_second)

    # Without the ledger.

    async def _look(self) -> None:
        try:
            self._own = await asyncio.to_thread(self._look_blocking)
        except Exception as error:
            logger.warning(
                "How many replicas share the limits cannot be seen, %d are assumed: %s",
                self._own.instances,
                error,
            )

    def _look_soon(self) -> None:
        # A look may block for as long as Ray's tables do; one at a time, beside everything else.
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())

    def _serve_alone(self, now: float) -> None:
        if not self._alone:
            self._alone, self._alone_at = True, now
            logger.warning(
                "The ledger of limits does not answer; this replica serves 1/%d of each limit.",
                self._own.instances,
            )
            for local in self._pools.values():
                local.owed = 0
                local.wake()
        seconds, self._alone_at = now - self._alone_at, now
        for local in self._pools.values():
            share = self._own.units(local.spec.capacity)
            if local.spec.is_slots:
                local.idle = share - local.in_use
            else:
                refill = self._own.refill_per_second(local.spec.refill_per_second)
                local.idle = min(share, local.idle + refill * seconds)

    # With it.

    def _ask_soon(self) -> None:
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())

    def _report_soon(self) -> None:
        self._report_now = True
        self._ask_soon()

    async def _ask(self) -> None:
        while not self._alone and (self._report_now or self._asks()):
            await self._exchange()

    def _asks(self) -> tuple[Ask, ...]:
        now = self._clock()
        return tuple(
            Ask(local.spec, local.wanted)
            for local in self._pools.values()
            if local.wanted and local.idle < 1 and now >= local.pending_until
            if now >= local.refused_until
        )

    def _holdings(self) -> tuple[Holding, ...]:
        entries = []
        for local in self._pools.values():
            if not local.changed:
                continue
            local.changed = False
            if local.spec.is_slots:
                entries.append(Holding(local.spec, max(0.0, local.idle) + local.in_use))
                continue
            returned = local.returned + min(0.0, local.idle)
            local.returned, local.idle = 0.0, max(0.0, local.idle)
            entries.append(Holding(local.spec, local.idle, returned))
        return tuple(entries)

    async def _exchange(self) -> None:
        async with self._lock:
            sent = self._clock()
            joining, self._report_now = self._alone, False
            if joining:
                holdings: tuple[Holding, ...] = tuple(
                    Holding(local.spec, local.in_use if local.spec.is_slots else 0.0)
                    for local in self._pools.values()
                )
                asks: tuple[Ask, ...] = ()
            else:
                asks, holdings = self._asks(), self._holdings()
            try:
                answer = await self._ledger.exchange(Report(self._holder, holdings, asks))
            except ConnectionError:
                if not joining:
                    self._serve_alone(self._clock())
                return
            if joining:
                if not answer.settling:
                    self._join(answer, sent)
                return
            if answer.ledger_id != self._ledger_id:
                # Another ledger that knows nothing of our leases: begin anew.
                self._serve_alone(self._clock())
                return
            self._valid_until = sent + _VALID_SECONDS
            self._own = answer.share
            self._apply(answer, asks)

    def _join(self, answer: Answer, sent: float) -> None:
        if self._ledger_id:
            count = answer.share.instances
            logger.info("The ledger of limits is back; %d replicas share it.", count)
        self._alone, self._ledger_id = False, answer.ledger_id
        self._valid_until = sent + _VALID_SECONDS
        for local in self._pools.values():
            # A debt stays ours to pay; leases of the time alone do not.
            local.idle = 0.0 if local.spec.is_slots else min(0.0, local.idle)
            local.returned, local.changed, local.refused_until = 0.0, True, 0.0

    def _apply(self, answer: Answer, asks: tuple[Ask, ...]) -> None:
        now = self._clock()
        for ask in asks:
            local, grant = self._pools[ask.spec.name], answer.grants.get(ask.spec.name)
            if grant is None:
                continue
            local.idle += grant.amount
            if grant.amount < ask.want:
                local.retry_after_seconds = grant.retry_after_seconds
                if ask.spec.name in answer.pending:
                    local.pending_until = now + _WAIT_SECONDS
                else:
                    local.refused_until = now + _REFUSAL_SECONDS
            if grant.amount or ask.spec.name not in answer.pending:
                local.wake()

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(_RENEW_SECONDS)
            now = self._clock()
            for name, local in list(self._pools.items()):
                if now - local.used_at > _IDLE_SECONDS and not self._alone:
                    local.give_back_idle()
                    if not (local.changed or local.in_use or local.idle or local.wanted):
                        del self._pools[name]
            await self._exchange()
            if self._alone:
                self._look_soon()

    async def _listen(self) -> None:
        while True:
            try:
                notices = await self._ledger.notices(self._holder, 5.0)
            except ConnectionError:
                await asyncio.sleep(_RENEW_SECONDS)
                continue
            for notice in notices:
                self._heed(notice)
            if notices:
                self._ask_soon()

    def _heed(self, notice: Notice) -> None:
        # A recall is answered even where nothing can be returned: the asker waits for the answer.
        self._report_now |= notice.recall
        local = self._pools.get(notice.pool)
        if local is None:
            return
        if notice.recall:
            local.give_back_idle()
            local.owed = notice.owed
        else:
            local.pending_until = local.refused_until = 0.0
