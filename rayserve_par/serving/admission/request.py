"""One request of a known caller, from its body to the end of its answer.

Time: the body has `body_timeout_s`; the whole request has its deadline, from its beginning. The
application runs in the same task, so that whatever cancels the request (the deadline, a client that
stopped reading or left) cancels it at once. Serve does not watch for disconnects
(`direct_ingress.py`, `frontend_rules.py`): until there is an answer vLLM's handlers do, then
`Response`.
"""

from __future__ import annotations

import asyncio
import logging
import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from rayserve_par.serving.admission import paths
from rayserve_par.serving.admission.body import (
    TOO_SLOW,
    Body,
    announced_size_refusal,
    read_body,
)
from rayserve_par.serving.admission.checks import check_body, wants_stream
from rayserve_par.serving.admission.form import form_models
from rayserve_par.serving.admission.gate import Caller, Gate
from rayserve_par.serving.admission.holding import Holding
from rayserve_par.serving.admission.refusal import (
    App,
    Message,
    Receive,
    Refusal,
    Scope,
    Send,
)
from rayserve_par.serving.admission.response import Response

logger = logging.getLogger("ray.serve")

# Serve answers the same header with a plain 408 of its own; ours has to be first.
_BEFORE_SERVE_SECONDS = 0.05
# Longer bodies are checked in a thread: their checks may take long, and none blocks the loop then.
_LONG_BODY_BYTES = 2**17
_CHECKERS = ThreadPoolExecutor(max_workers=2, thread_name_prefix="admission-checks")
# From this version of ASGI on Starlette leaves it to the server to say that a client left; what is
# told here is `Response`, which cancels the request.
_SEND_MAY_FAIL = "2.4"
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
        "_ended",
        "_gate",
        "_headers",
        "_holding",
        "_path",
        "_pending_stream",
        "_reading",
        "_stream",
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
        self._ended = False
        self._reading = False
        self._stream = False
        self._pending_stream = False
        self._holding = Holding(gate, caller)

    async def run(self, scope: Scope, receive: Receive, send: Send) -> None:
        """From the body to the end of the answer."""
        gate = self._gate
        response = Response(send, self._on_first, self._on_last, gate.engine_failed)
        response.task = asyncio.current_task()
        gate.responses.add(response)
        outcome = "client_gone"
        try:
            outcome = await self._timed(scope, receive, send, response)
        finally:
            response.close()
            gate.responses.discard(response)
            gate.outcomes[outcome] += 1
            if not self._ended:
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
                    response.receive = receive
                    receive = _replay(self._body.data, receive, response)
                    self._body.data = b""
                    scope["asgi"] = {**scope.get("asgi", {}), "spec_version": _SEND_MAY_FAIL}
                await self._app(scope, receive, response.send)
        except TimeoutError:
            return await (self._late(response) if timer.expired() else self._failed(response))
        except asyncio.CancelledError:
            if not (response.stalled or response.left) or response.task is None:
                raise
            response.task.uncancel()
            return "client_stalled" if response.stalled else "client_gone"
        except Exception:
            return "client_gone" if response.gone else await self._failed(response)
        return await self._outcome(response)

    @staticmethod
    async def _outcome(response: Response) -> str:
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
            checked = await self._checked_body()
            if isinstance(checked, Refusal):
                return checked
            data = checked
        if caller.entry is not None and caller.entry.models is not None:
            asked: list[Any] | Refusal = [data["model"]] if data.get("model") else []
            if paths.takes_form(path):
                asked = await form_models(scope, self._body.data)
            refusal = (
                asked if isinstance(asked, Refusal) else caller.model_refusal(asked, gate.names)
            )
            if refusal is not None:
                return refusal
        engine = paths.uses_engine(path)
        stream = engine and wants_stream(data)
        refusal = await self._holding.take(engine=engine, stream=stream)
        if refusal is not None:
            return refusal
        self._stream = self._pending_stream = stream
        self._admitted_at = gate.clock()
        if self._holding.counts_tokens:
            self._register_usage(scope)
        return None

    async def _checked_body(self) -> dict[str, Any] | Refusal:
        data, args = self._body.data, self._gate.args
        if len(data) < _LONG_BODY_BYTES:
            return check_body(data, args)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(_CHECKERS, check_body, data, args)

    def _register_usage(self, scope: Scope) -> None:
        """Give the request an id that nobody else has now; the engine's ids are made of it."""
        wanted = self._headers.get(b"x-request-id", b"").decode("latin-1")
        name = self._holding.register_usage(wanted, self._body.size)
        if name != wanted:
            kept = [pair for pair in scope["headers"] if pair[0] != b"x-request-id"]
            scope["headers"] = [*kept, (b"x-request-id", name.encode())]

    def _on_first(self, response: Response) -> None:
        if self._pending_stream and response.is_stream:
            self._pending_stream = False
            self._gate.limit.first_token(self._gate.clock() - self._admitted_at)

    def _on_last(self, response: Response) -> None:
        self._end(response, "ok")

    def _end(self, response: Response, outcome: str) -> None:
        self._ended = True
        gate = self._gate
        gate.bodies.held_bytes -= self._body.size
        answered = outcome == "ok" and response.status < 400
        output_tokens = response.estimated_tokens if answered or outcome in _CUT else None
        self._holding.end(
            pending_stream=self._pending_stream,
            served=answered and not self._stream,
            output_tokens=output_tokens,
        )

    @staticmethod
    async def _failed(response: Response) -> str:
        logger.exception("The application failed on a request.")
        if not response.blocked:
            await response.fail(FAILED)
        return "failed"


def _replay(data: bytes, receive: Receive, response: Response) -> Receive:
    """`receive` as if the body had not been read; `response` learns that its client left."""
    message: Message | None = {"type": "http.request", "body": data, "more_body": False}

    async def replay() -> Message:
        nonlocal message
        if message is not None:
            whole, message = message, None
            return whole
        received = await receive()
        if received["type"] == "http.disconnect":
            response.gone = True
        return received

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
