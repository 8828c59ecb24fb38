"""One request of a known caller, from its body to the end of its answer.

Time: the body has `body_timeout_s`; the whole request has its deadline, from its beginning. The
application runs in the same task, so that whatever cancels the request (Serve at a disconnect, the
deadline, a client that stopped reading) cancels it at once.
"""

from __future__ import annotations

import asyncio
import logging
import math
import uuid
from typing import Any

from rayserve_par.serving.admission import paths
from rayserve_par.serving.admission.body import (
    TOO_SLOW,
    Body,
    announced_size_refusal,
    read_body,
)
from rayserve_par.serving.admission.checks import check_body
from rayserve_par.serving.admission.context import request_usage
from rayserve_par.serving.admission.gate import Caller, Gate
from rayserve_par.serving.admission.key_limits import limit_refusal
from rayserve_par.serving.admission.refusal import (
    App,
    Message,
    Receive,
    Refusal,
    Scope,
    Send,
    shed,
)
from rayserve_par.serving.admission.response import Response
from rayserve_par.serving.admission.usage import UsageEntry

logger = logging.getLogger("ray.serve")

# Serve answers the same header with a plain 408 of its own; ours has to be first.
_BEFORE_SERVE_SECONDS = 0.05
_LONGEST_ID = 128
# The engine worked for these and will not report it.
_CUT = frozenset({"client_gone", "client_stalled", "timeout"})

LATE = Refusal(504, "The deadline of the request passed.", type="server_error", code="timeout")
FAILED = Refusal(500, "The server failed on this request.", type="server_error", code="internal")


class Request:
    """One admitted caller's request, to the end of its answer."""

    __slots__ = (
        "_admitted_at",
        "_app",
        "_body",
        "_caller",
        "_gate",
        "_headers",
        "_in_flight",
        "_leased",
        "_path",
        "_pending_stream",
        "_reading",
        "_stream",
        "_usage",
    )

    def __init__(
        self, app: App, gate: Gate, caller: Caller, path: str, headers: dict[bytes, bytes]
    ) -> None:
        self._app = app
        self._gate = gate
        self._caller = caller
        self._path = path
        self._headers = headers
        self._body = Body()
        self._admitted_at = 0.0
        self._reading = False
        self._leased = False
        self._in_flight = False
        self._stream = False
        self._pending_stream = False
        self._usage: UsageEntry | None = None

    async def run(self, scope: Scope, receive: Receive, send: Send) -> None:
        """From the body to the end of the answer."""
        gate = self._gate
        response = Response(send, self._on_first, gate.engine_failed)
        response.task = asyncio.current_task()
        gate.responses.add(response)
        outcome = "client_gone"
        try:
            outcome = await self._timed(scope, receive, send, response)
        finally:
            gate.responses.discard(response)
            gate.outcomes[outcome] += 1
            self._end(response, outcome)

    async def _timed(self, scope: Scope, receive: Receive, send: Send, response: Response) -> str:
        """Serve within the limits of time; what became of the request."""
        args = self._gate.args
        self._reading = scope["method"] == "POST"
        seconds = _deadline_seconds(self._headers, args.request_timeout_s)
        try:
            async with asyncio.timeout(seconds) as timer:
                if self._reading:
                    deadline = timer.when()
                    body_end = asyncio.get_running_loop().time() + args.body_timeout_s
                    timer.reschedule(body_end if deadline is None else min(deadline, body_end))
                    refusal = await self._read(receive)
                    if self._body.gone:
                        return "client_gone"
                    self._reading = False
                    timer.reschedule(deadline)
                    refusal = refusal or await self._admit(scope)
                    if refusal is not None:
                        await refusal.send(send)
                        return refusal.code or ""
                    receive = _replay(self._body.data, receive)
                    self._body.data = b""
                await self._app(scope, receive, response.send)
        except TimeoutError:
            return await (self._late(response) if timer.expired() else self._failed(response))
        except asyncio.CancelledError:
            if not response.stalled or response.task is None:
                raise
            response.task.uncancel()
            return "client_stalled"
        except Exception:
            return await self._failed(response)
        return await self._ended(response)

    @staticmethod
    async def _ended(response: Response) -> str:
        if response.complete:
            return "ok"
        if response.gone:
            return "client_gone"
        await response.fail(FAILED)
        return "failed"

    async def _late(self, response: Response) -> str:
        if self._reading:
            await response.fail(TOO_SLOW)
            return "body_timeout"
        if not response.blocked:
            await response.fail(LATE)
        return "timeout"

    async def _read(self, receive: Receive) -> Refusal | None:
        args, gate = self._gate.args, self._gate
        announced = announced_size_refusal(
            self._headers.get(b"content-length"), args.max_body_bytes
        )
        return announced or await read_body(receive, self._body, gate.bodies, args.max_body_bytes)

    async def _admit(self, scope: Scope) -> Refusal | None:
        """Check what is asked, and take what it needs; None if it may go on."""
        gate, caller, path = self._gate, self._caller, self._path
        data: dict[str, Any] = {}
        if paths.takes_json(path):
            checked = check_body(self._body.data, gate.args)
            if isinstance(checked, Refusal):
                return checked
            data = checked
        refusal = self._model_refusal(data)
        if refusal is not None:
            return refusal
        uses, leases = caller.limits.uses, gate.leases
        if uses and leases is not None and not leases.take(uses):
            shortage = await leases.obtain(uses)
            if shortage is not None:
                return limit_refusal(shortage)
        self._leased = bool(uses)
        if not paths.uses_engine(path):
            self._admitted_at = gate.clock()
            return None
        if not gate.limit.admits(caller.priority):
            if uses and leases is not None:
                leases.refund(uses)
                self._leased = False
            return shed(
                f"This instance is at its limit of {int(gate.limit.limit)} requests.",
                max(1.0, gate.limit.excess_seconds),
            )
        self._stream = self._pending_stream = data.get("stream") is True
        gate.limit.begin(stream=self._stream)
        self._in_flight = True
        self._admitted_at = gate.clock()
        if caller.limits.tokens is not None:
            self._register_usage(scope)
        return None

    def _model_refusal(self, data: dict[str, Any]) -> Refusal | None:
        entry = self._caller.entry
        if entry is None or entry.models is None:
            return None
        model = data.get("model") or self._gate.names[0]
        if isinstance(model, str) and entry.may_use(model, self._gate.names):
            return None
        return Refusal(
            403,
            f"This key may not use the model {model!r}.",
            param="model",
            code="model_not_allowed",
        )

    def _register_usage(self, scope: Scope) -> None:
        """Give the request an id that nobody else has now; the engine's ids are made of it."""
        usage, tokens, leases = self._gate.usage, self._caller.limits.tokens, self._gate.leases
        assert tokens is not None, "only callers with a token limit are registered"
        name = self._headers.get(b"x-request-id", b"").decode("latin-1")
        if not name or len(name) > _LONGEST_ID or usage.knows(name):
            name = uuid.uuid4().hex
            kept = [pair for pair in scope["headers"] if pair[0] != b"x-request-id"]
            scope["headers"] = [*kept, (b"x-request-id", name.encode())]

        def charge(units: int) -> None:
            if leases is not None:
                leases.charge(tokens, units)

        self._usage = usage.register(name, charge, self._body.size)
        request_usage.set(self._usage)

    def _on_first(self, response: Response) -> None:
        if self._pending_stream and response.is_stream:
            self._pending_stream = False
            self._gate.limit.first_token(self._gate.clock() - self._admitted_at)

    def _end(self, response: Response, outcome: str) -> None:
        gate = self._gate
        gate.bodies.held_bytes -= self._body.size
        answered = outcome == "ok" and response.status < 400
        if self._in_flight:
            gate.limit.end(
                pending_stream=self._pending_stream, served=answered and not self._stream
            )
        slots = self._caller.limits.slots
        if self._leased and slots is not None and gate.leases is not None:
            gate.leases.release(slots)
        if self._usage is not None:
            output_tokens = None
            if answered or outcome in _CUT:
                output_tokens = response.estimated_tokens
            gate.usage.end(self._usage, gate.clock(), output_tokens)

    @staticmethod
    async def _failed(response: Response) -> str:
        logger.exception("The application failed on a request.")
        if not response.blocked:
            await response.fail(FAILED)
        return "failed"


def _replay(data: bytes, receive: Receive) -> Receive:
    """`receive` as if the body had not been read."""
    message: Message | None = {"type": "http.request", "body": data, "more_body": False}

    async def replay() -> Message:
        nonlocal message
        if message is not None:
            whole, message = message, None
            return whole
        return await receive()

    return replay


def _deadline_seconds(headers: dict[bytes, bytes], default: float | None) -> float | None:
    value = headers.get(b"x-request-timeout-seconds")
    if value is not None:
        try:
            seconds = float(value)
        except ValueError:
            seconds = 0.0
        if seconds > 0 and math.isfinite(seconds):
            return seconds - min(_BEFORE_SERVE_SECONDS, seconds / 20)
    return default
