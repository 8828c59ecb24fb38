"""The ledger's side of quota leases: a `LeaseBook`, and whom to tell what. Pure.

One exchange of a holder: what it holds -> what it asks for -> grants. Where an ask is short and
others hold units, they are told to return what they do not use (`Notice.recall`), and the asker is
told that this is under way (`Answer.pending`). When they have answered, or units came free, those
who wait are told to ask again. So a unit that lies idle at another replica is there after two more
messages, and a refusal means that there was none. A pool is recalled at most once in
`_RECALL_SECONDS`, which bounds what a key beyond its limit can make the replicas do.

A ledger that follows a lost one (`successor`) knows no leases: buckets start empty, and for
`settle_seconds`, in which every replica reports, it grants nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from rayserve_par.serving.admission.lease_book import Grant, LeaseBook, PoolSpec
from rayserve_par.serving.admission.own_share import OwnShare

_RECALL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Holding:
    """What a holder holds of a pool, and what of a bucket it returns (negative: debt)."""

    spec: PoolSpec
    holding: float
    returned: float = 0.0


@dataclass(frozen=True, slots=True)
class Ask:
    """Units that a holder wants."""

    spec: PoolSpec
    want: int


@dataclass(frozen=True, slots=True)
class Report:
    """One message of a holder."""

    holder: str
    holdings: tuple[Holding, ...] = ()
    asks: tuple[Ask, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer: grants by pool; `pending` pools are being recalled, a notice will follow.

    `share` is what the holder serves of each limit when the ledger is gone.
    """

    ledger_id: str
    share: OwnShare
    grants: dict[str, Grant] = field(default_factory=dict)
    pending: frozenset[str] = frozenset()
    settling: bool = False


@dataclass(frozen=True, slots=True)
class Notice:
    """To a holder: return idle units of `pool` and `owed` more (recall), or ask again."""

    pool: str
    recall: bool
    owed: int = 0


class Ledger(Protocol):
    """How a holder reaches the ledger."""

    async def exchange(self, report: Report) -> Answer:
        """Report and ask.

        Raises:
            ConnectionError: the ledger is gone or does not answer.
        """

    async def notices(self, holder: str, wait_seconds: float) -> tuple[Notice, ...]:
        """Return what the ledger wants of `holder`, at the latest after `wait_seconds`.

        Raises:
            ConnectionError: the ledger is gone or does not answer.
        """


class LedgerCore:
    """The ledger without its messages: what to answer, and whom to notify."""

    def __init__(
        self, ledger_id: str, *, successor: bool = False, settle_seconds: float = 2.0
    ) -> None:
        self.book = LeaseBook(starts_empty=successor)
        self._ledger_id = ledger_id
        self._settle_seconds = settle_seconds if successor else 0.0
        self._opened: float | None = None
        self._recalled: dict[str, set[str]] = {}  # pool -> holders that have not answered yet
        self._recall_again_at: dict[str, float] = {}

    def exchange(self, clock: float, report: Report) -> tuple[Answer, dict[str, list[Notice]]]:
        """Answer `report`; the notices are by holder."""
        notices: dict[str, list[Notice]] = {}
        self._opened = clock if self._opened is None else self._opened
        holder = report.holder
        self.book.renew(clock, holder)
        touched = {pool for pool, silent in self._recalled.items() if holder in silent}
        for pool in touched:
            self._recalled[pool].discard(holder)
        for entry in report.holdings:
            self.book.report(clock, holder, entry.spec, entry.holding, entry.returned)
            touched.add(entry.spec.name)
        settling = clock - self._opened < self._settle_seconds
        grants, pending = {}, set()
        for ask in () if settling else report.asks:
            name = ask.spec.name
            grants[name] = self.book.ask(clock, holder, ask.spec, ask.want)
            if grants[name].amount < ask.want:
                self._recall(clock, name, holder, notices)
                if self._recalled.get(name):
                    pending.add(name)
        for pool in touched:
            self._tell_those_who_wait(pool, holder, notices)
        answer = Answer(
            self._ledger_id,
            OwnShare.of(holder, self.book.holders),
            grants,
            frozenset(pending),
            settling,
        )
        return answer, notices

    def _recall(
        self, clock: float, pool: str, asker: str, notices: dict[str, list[Notice]]
    ) -> None:
        if clock < self._recall_again_at.get(pool, 0.0):
            return
        self._recall_again_at[pool] = clock + _RECALL_SECONDS
        others = {holder for holder in self.book.leases(pool) if holder != asker}
        self._recalled[pool] = others
        for holder in others:
            owed = self.book.owed(pool, holder)
            notices.setdefault(holder, []).append(Notice(pool, recall=True, owed=owed))

    def _tell_those_who_wait(
        self, pool: str, holder: str, notices: dict[str, list[Notice]]
    ) -> None:
        waiting = self.book.waiting(pool)
        if not waiting or (self._recalled.get(pool) and self.book.free(pool) < 1):
            return
        for waiter in waiting:
            if waiter != holder:
                notices.setdefault(waiter, []).append(Notice(pool, recall=False))
