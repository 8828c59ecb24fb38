"""Leases on limits: who holds how much of which limit. Pure; the time is passed in.

A pool is one limit of one key with C units (`capacity`). Holders (replicas) hold h_i of them.

    slots    free = C - sum h_i; a unit comes back when its holder returns it
    buckets  free grows by `refill_per_second` up to C - sum h_i; a spent unit leaves its holder

so sum h_i <= C always, and what all holders together spend of a bucket in any T seconds is at most
C + refill x T. A bucket's free may be negative: debt of requests whose price was known at their end
only. A holder reports what it holds (absolute, so that a lost answer corrects itself), what of a
bucket it returns, and its debt.

An ask is granted max(want, half an equal share of free), as far as there are units. What is short
is queued: units are kept, one for each holder that asked before and still waits, so that a busy
holder cannot starve a quiet one. A holder that does not ask again within `patience_seconds` loses
its place. Where a slot pool is held out, the holders above an equal share owe units, to be returned
as they come free (`owed`).

A holder that does not report for `ttl_seconds` loses its leases: slots return, a bucket's units
count as spent. The book's own clock advances at most `longest_step_seconds` between two calls and
never backwards: a suspended machine or a jumping clock refills less and expires nobody.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """One limit of one key; without a refill it is a number of slots."""

    name: str
    capacity: int
    refill_per_second: float = 0.0

    @property
    def is_slots(self) -> bool:
        """Whether units come back when their use ends."""
        return self.refill_per_second == 0.0


@dataclass(frozen=True, slots=True)
class Grant:
    """The answer to an ask: `amount` of what was wanted, and when to expect the next unit."""

    amount: int
    retry_after_seconds: float


@dataclass(slots=True)
class _Pool:
    spec: PoolSpec
    level: float  # of a bucket: free units, negative is debt
    held: dict[str, float] = field(default_factory=dict)
    waiting: dict[str, float] = field(default_factory=dict)  # holder -> its last ask, in order

    @property
    def free(self) -> float:
        if self.spec.is_slots:
            return self.spec.capacity - sum(self.held.values())
        return self.level

    def advance(self, seconds: float) -> None:
        if not self.spec.is_slots:
            room = self.spec.capacity - sum(self.held.values())
            self.level = min(room, self.level + self.spec.refill_per_second * seconds)

    def respec(self, spec: PoolSpec) -> None:
        if spec != self.spec:
            if not spec.is_slots:
                self.level += spec.capacity - self.spec.capacity
            self.spec = spec


class LeaseBook:
    """All pools of one ledger."""

    def __init__(
        self,
        *,
        ttl_seconds: float = 6.0,
        patience_seconds: float = 1.5,
        longest_step_seconds: float = 2.0,
        starts_empty: bool = False,
    ) -> None:
        self._ttl_seconds = ttl_seconds
        self._patience_seconds = patience_seconds
        self._longest_step_seconds = longest_step_seconds
        self._starts_empty = starts_empty
        self._pools: dict[str, _Pool] = {}
        self._renewed: dict[str, float] = {}
        self._now = 0.0
        self._last_clock: float | None = None

    @property
    def holders(self) -> tuple[str, ...]:
        """Everybody who reported within the TTL."""
        return tuple(self._renewed)

    def leases(self, pool: str) -> Mapping[str, float]:
        """What each holder holds of `pool`."""
        found = self._pools.get(pool)
        return {} if found is None else dict(found.held)

    def free(self, pool: str) -> float:
        """Units that nobody holds; of a bucket negative is debt."""
        return self._pools[pool].free

    def waiting(self, pool: str) -> tuple[str, ...]:
        """Holders whose ask was short, in the order of their asks."""
        found = self._pools.get(pool)
        return () if found is None else tuple(found.waiting)

    def tick(self, clock: float) -> None:
        """Advance the book's clock to `clock`, refill, and drop what has run out."""
        if self._last_clock is not None:
            step = min(max(0.0, clock - self._last_clock), self._longest_step_seconds)
            self._now += step
            for pool in self._pools.values():
                pool.advance(step)
        self._last_clock = clock
        for holder, renewed in list(self._renewed.items()):
            if self._now - renewed > self._ttl_seconds:
                self._drop(holder)
        for pool in self._pools.values():
            for holder, asked in list(pool.waiting.items()):
                if self._now - asked > self._patience_seconds:
                    del pool.waiting[holder]

    def report(
        self, clock: float, holder: str, spec: PoolSpec, holding: float, returned: float = 0.0
    ) -> None:
        """`holder` holds `holding` units; of a bucket `returned` go back, negative is debt."""
        self.renew(clock, holder)
        pool = self._pool(spec)
        if returned > 0 or (spec.is_slots and holding < pool.held.get(holder, 0.0)):
            pool.waiting.pop(holder, None)  # who gives back does not wait
        if holding > 0:
            pool.held[holder] = holding
        else:
            pool.held.pop(holder, None)
        if not spec.is_slots:
            pool.level = min(pool.level + returned, spec.capacity - sum(pool.held.values()))

    def renew(self, clock: float, holder: str) -> None:
        """`holder` is alive."""
        self.tick(clock)
        self._renewed[holder] = self._now

    def ask(self, clock: float, holder: str, spec: PoolSpec, want: int) -> Grant:
        """Lease `holder` at least `want` units if there are so many, else what there is."""
        self.renew(clock, holder)
        pool = self._pool(spec)
        kept = self._kept_for_others(pool, holder)
        available = math.floor(pool.free - kept)
        share = math.floor(pool.free / (2 * len(self._renewed)))
        amount = max(0, min(available, max(want, share)))
        if amount:
            pool.held[holder] = pool.held.get(holder, 0.0) + amount
            pool.level -= amount
        if amount >= want:
            pool.waiting.pop(holder, None)
            return Grant(amount, 0.0)
        if amount:
            pool.waiting.pop(holder, None)  # to the end of the queue: it has had its turn
        pool.waiting[holder] = self._now
        if spec.is_slots:
            return Grant(amount, 1.0)
        return Grant(amount, (1 + kept - pool.free) / spec.refill_per_second)

    def owed(self, pool: str, holder: str) -> int:
        """Slots that `holder` should return as they come free, for those who wait."""
        found = self._pools.get(pool)
        if found is None or not found.spec.is_slots:
            return 0
        own = math.floor(found.held.get(holder, 0.0))
        poorer = sum(found.held.get(waiter, 0.0) < own for waiter in found.waiting)
        if not poorer:
            return 0
        fair = found.spec.capacity // len({*found.held, *found.waiting})
        return max(0, min(poorer, own - fair))

    @staticmethod
    def _kept_for_others(pool: _Pool, holder: str) -> int:
        """One unit for each holder that waited before `holder` asked."""
        queue = list(pool.waiting)
        return queue.index(holder) if holder in pool.waiting else len(queue)

    def _pool(self, spec: PoolSpec) -> _Pool:
        pool = self._pools.get(spec.name)
        if pool is None:
            level = 0.0 if self._starts_empty else float(spec.capacity)
            pool = self._pools[spec.name] = _Pool(spec, level)
        pool.respec(spec)
        return pool

    def _drop(self, holder: str) -> None:
        self._renewed.pop(holder, None)
        for pool in self._pools.values():
            pool.held.pop(holder, None)
            pool.waiting.pop(holder, None)
