"""What one request holds while it is served: units of its key's limits, room of the instance."""

from __future__ import annotations

import uuid

from rayserve_par.serving.admission.context import request_usage
from rayserve_par.serving.admission.gate import Caller, Gate
from rayserve_par.serving.admission.key_limits import limit_refusal
from rayserve_par.serving.admission.refusal import Refusal, shed
from rayserve_par.serving.admission.usage import UsageEntry

_LONGEST_ID = 128


class Holding:
    """Taken as a whole or not at all; each request ends what it took."""

    __slots__ = ("_caller", "_gate", "_in_flight", "_leased", "_usage")

    def __init__(self, gate: Gate, caller: Caller) -> None:
        self._gate = gate
        self._caller = caller
        self._leased = False
        self._in_flight = False
        self._usage: UsageEntry | None = None

    async def take(self, *, engine: bool, stream: bool) -> Refusal | None:
        """Take what the caller's limits ask for and, for the engine's work, the instance's room."""
        gate, uses = self._gate, self._caller.limits.uses
        if uses and not gate.leases.take(uses):
            shortage = await gate.leases.obtain(uses)
            if shortage is not None:
                return limit_refusal(shortage)
        self._leased = bool(uses)
        if not engine:
            return None
        if not gate.limit.admits(self._caller.priority):
            if self._leased:
                gate.leases.refund(uses)
                self._leased = False
            return shed(
                f"This instance is at its limit of {int(gate.limit.limit)} requests.",
                max(1.0, gate.limit.excess_seconds),
            )
        gate.limit.begin(stream=stream)
        self._in_flight = True
        return None

    @property
    def counts_tokens(self) -> bool:
        """Whether the caller pays for tokens of the engine's work."""
        return self._in_flight and self._caller.limits.tokens is not None

    def register_usage(self, wanted_id: str, body_bytes: int) -> str:
        """Bind the engine's reports to the caller; the id, which nobody else has now."""
        gate, tokens = self._gate, self._caller.limits.tokens
        assert tokens is not None, "only callers with a token limit are registered"
        name = wanted_id
        if not name or len(name) > _LONGEST_ID or gate.usage.knows(name):
            name = uuid.uuid4().hex
        self._usage = gate.usage.register(
            name, lambda units: gate.leases.charge(tokens, units), body_bytes
        )
        request_usage.set(self._usage)
        return name

    def end(self, *, pending_stream: bool, served: bool, output_tokens: int | None) -> None:
        """Give everything back; the rest is about the engine's work, as far as it is known."""
        gate, slots = self._gate, self._caller.limits.slots
        if self._in_flight:
            gate.limit.end(pending_stream=pending_stream, served=served)
        if self._leased and slots is not None:
            gate.leases.release(slots)
        if self._usage is not None:
            gate.usage.end(self._usage, gate.clock(), output_tokens)
