"""What one replica's admission knows, apart from any single request: keys, leases, load, bodies.

Made by the replica before its application, started in the replica's event loop. Everything that
takes time happens off the requests' path, and what may be slow in a task of its own: keys once a
second, node addresses (where they decide who is served) every ten, joining the ledger; `_keep`
minds the concurrency limit every half second, stalled clients and unreported usage.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rayserve_par.serving.admission.args import AdmissionArgs, LimitArgs
from rayserve_par.serving.admission.body import BodyBudget
from rayserve_par.serving.admission.concurrency import (
    WINDOW_SECONDS,
    AdaptiveLimit,
    EngineLoad,
    concurrency_limit,
)
from rayserve_par.serving.admission.key_limits import ANONYMOUS, CallerLimits, caller_limits
from rayserve_par.serving.admission.key_source import KeySource
from rayserve_par.serving.admission.keys import KeyEntry, KeySet
from rayserve_par.serving.admission.lease_client import LeaseClient
from rayserve_par.serving.admission.ledger import Ledger
from rayserve_par.serving.admission.local_ledger import LocalLedger
from rayserve_par.serving.admission.own_share import OwnShare
from rayserve_par.serving.admission.refusal import Refusal
from rayserve_par.serving.admission.response import Response
from rayserve_par.serving.admission.usage import UsageSink

logger = logging.getLogger("ray.serve")

_RELOAD_SECONDS = 1.0
_ADDRESSES_SECONDS = 10.0
# So long does a start wait for the first addresses and the ledger; it goes on without them.
_START_SECONDS = 8.0


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: a key's entry, or None without keys; and its limits as pools."""

    entry: KeyEntry | None
    limits: CallerLimits

    @property
    def priority(self) -> int:
        """vLLM's: lower is served earlier."""
        return 0 if self.entry is None else self.entry.priority

    @property
    def name(self) -> str | None:
        """The key's name."""
        return None if self.entry is None else self.entry.name

    def model_refusal(self, asked: Sequence[Any], names: Sequence[str]) -> Refusal | None:
        """403 where the caller may not use all models that it asks for; for none, the first."""
        entry = self.entry
        if entry is None or entry.models is None:
            return None
        for model in asked or names[:1]:
            if not (isinstance(model, str) and entry.may_use(model or names[0], names)):
                return Refusal(
                    403,
                    f"This key may not use the model {model!r}.",
                    param="model",
                    code="model_not_allowed",
                )
        return None


class Gate:
    """Admission of one replica.

    names: what the instance's model is called, the first name first.
    ledger: where limits are shared with other replicas; without it they are this replica's own.
    look_at_share: this replica's share of limits while there is no ledger; called in a thread.
    facts: what the front is told of the instance beside its load.
    engine_load: the engine's numbers as of its latest step; None while it has none.
    engine_failed: whether the engine has ended, so that its errors are worth a try elsewhere.
    node_addresses: of the Ray cluster's nodes; called in a thread.
    """

    def __init__(
        self,
        args: AdmissionArgs,
        *,
        names: Sequence[str],
        facts: Mapping[str, object] | None = None,
        keys: KeySource | None = None,
        ledger: Ledger | None = None,
        holder: str = "replica",
        look_at_share: Callable[[], OwnShare] = OwnShare,
        engine_load: Callable[[], EngineLoad | None] = lambda: None,
        engine_failed: Callable[[], bool] = lambda: False,
        node_addresses: Callable[[], Collection[str]] = tuple,
        usage: UsageSink | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.args = args
        self.names = tuple(names)
        self._facts = dict(facts or {})
        self.clock = clock
        self.draining = False
        self.limit: AdaptiveLimit = concurrency_limit(args.concurrency, None)
        self.bodies = BodyBudget(args.max_buffered_bytes)
        self.usage = UsageSink() if usage is None else usage
        self.engine_failed = engine_failed
        self.responses: set[Response] = set()
        # Requests by what became of them: "ok" or a refusal's code.
        self.outcomes: Counter[str] = Counter()
        self.addresses: frozenset[str] = frozenset()
        self.anonymous = Caller(None, caller_limits(ANONYMOUS, args.anonymous_limits))
        # Serves by its own share until it has joined the ledger.
        self.leases = LeaseClient(
            ledger or LocalLedger(clock), holder, look=look_at_share, clock=clock
        )
        self._source = keys
        self._keys = KeySet(())
        self._callers: dict[str, Caller] = {}
        self._engine_load = engine_load
        self._node_addresses = node_addresses
        self._set_callers()
        self._joining: asyncio.Task[None] | None = None
        self._duties: list[asyncio.Task[None]] = []

    def engine_runs(self, requests: int) -> None:
        """The engine has started and runs so many requests at once."""
        self.limit = concurrency_limit(self.args.concurrency, requests)

    async def start(self) -> None:
        """Join the ledger and begin to keep everything current, each duty by itself."""
        duties: list[tuple[float, Callable[[], Awaitable[None]]]] = []
        if self._source is not None:
            duties.append((_RELOAD_SECONDS, self._reload_keys))
        elif not self.args.open:
            duties.append((_ADDRESSES_SECONDS, self._find_addresses))
        self._join_ledger()
        first = [] if self._joining is None else [self._joining]
        first += [asyncio.create_task(_once(duty)) for _, duty in duties]
        if first:
            await asyncio.wait(first, timeout=_START_SECONDS)
        self._duties = [asyncio.create_task(_every(*duty)) for duty in duties]
        self._duties += [asyncio.create_task(self._keep()), *first]

    async def stop(self) -> None:
        """End all duties. Leases need no word: the ledger takes back what is not renewed."""
        for task in self._duties:
            task.cancel()
        if self._duties:
            await asyncio.wait(self._duties)
        await self.leases.stop()

    @property
    def has_keys(self) -> bool:
        """Whether callers need a key."""
        return self._source is not None

    def caller(self, secret: bytes | None) -> Caller | None:
        """Who has `secret`; None where it is wrong, missing or expired."""
        entry = None if secret is None else self._keys.find(secret)
        if entry is None or entry.expired(time.time()):
            return None
        return self._callers[entry.name]

    def status(self) -> dict[str, Any]:
        """The document that the front polls."""
        load = self._engine_load() or EngineLoad()
        return {
            "model": self.names[0],
            "names": list(self.names),
            "running": load.running,
            "waiting": load.waiting,
            "kv_usage": round(load.kv_usage, 4),
            "in_flight": self.limit.in_flight,
            "limit": int(self.limit.limit),
            "draining": self.draining,
            **self._facts,
        }

    def _has_limits(self) -> bool:
        callers = (self.anonymous, *self._callers.values())
        return any(caller.limits.uses for caller in callers)

    def _set_callers(self) -> None:
        if self._source is not None:
            self._keys = self._source.keys
        defaults: LimitArgs = self.args.default_limits
        self._callers = {
            entry.name: Caller(entry, caller_limits(entry.name, entry.limits.over(defaults)))
            for entry in self._keys.entries
        }

    def _join_ledger(self) -> None:
        if self._joining is None and self._has_limits():
            self._joining = asyncio.create_task(self.leases.start())

    async def _keep(self) -> None:
        looked_at = self.clock()
        while True:
            await asyncio.sleep(WINDOW_SECONDS)
            now = self.clock()
            seconds, looked_at = now - looked_at, now
            try:
                self.limit.observe(now, self._engine_load())
                self.usage.sweep(now)
                for response in tuple(self.responses):
                    response.look(seconds, self.args.stream_stall_s)
            except Exception:
                logger.exception("Keeping the admission current failed; it goes on.")

    async def _find_addresses(self) -> None:
        self.addresses = frozenset(await asyncio.to_thread(self._node_addresses))

    async def _reload_keys(self) -> None:
        if self._source is not None and await asyncio.to_thread(self._source.reload):
            self._set_callers()
            self._join_ledger()


async def _once(duty: Callable[[], Awaitable[None]]) -> None:
    try:
        await duty()
    except Exception:
        logger.exception("Keeping the admission current failed; it goes on.")


async def _every(seconds: float, duty: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(seconds)
        await _once(duty)
