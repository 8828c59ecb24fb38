"""A websocket counts as one request from its opening to its end, whatever is said on it.

Its tokens are charged as the engine reports them. A refusal is an HTTP answer where the server can
send one in place of the handshake (so that the front can try another instance), else a close.
"""

from __future__ import annotations

import asyncio

from rayserve_par.serving.admission.gate import Caller, Gate
from rayserve_par.serving.admission.holding import Holding
from rayserve_par.serving.admission.refusal import App, Message, Receive, Refusal, Scope, Send
from rayserve_par.serving.admission.response import Response

_POLICY, _TRY_AGAIN_LATER = 1008, 1013
_LONGEST_REASON_BYTES = 123  # RFC 6455, 5.5


async def serve_websocket(
    app: App, gate: Gate, caller: Caller, scope: Scope, receive: Receive, send: Send
) -> None:
    """Serve it within the caller's limits and the instance's."""
    holding = Holding(gate, caller)
    answer = Response(send, lambda _: None)
    answer.task = asyncio.current_task()
    gate.responses.add(answer)
    outcome = "failed"

    async def watched(message: Message) -> None:
        answer.parts += 1
        answer.blocked = True
        await send(message)
        answer.blocked = False

    try:
        refusal = caller.model_refusal([], gate.names) or await holding.take(
            engine=True, stream=False
        )
        if refusal is not None:
            outcome = refusal.code or ""
            await refuse_websocket(refusal, scope, receive, send)
            return
        if holding.counts_tokens:
            holding.register_usage("", 0)
        await app(scope, receive, watched)
        outcome = "ok"
    except asyncio.CancelledError:
        outcome = "client_stalled" if answer.stalled else "client_gone"
        if not answer.stalled or answer.task is None:
            raise
        answer.task.uncancel()
    finally:
        gate.responses.discard(answer)
        gate.outcomes[outcome] += 1
        holding.end(pending_stream=False, served=False, output_tokens=None)


async def refuse_websocket(refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
    """Refuse the handshake."""
    await receive()
    if "websocket.http.response" in (scope.get("extensions") or {}):

        async def in_place_of_the_handshake(message: Message) -> None:
            await send({**message, "type": f"websocket.{message['type']}"})

        await refusal.send(in_place_of_the_handshake)
        return
    reason = refusal.message.encode()[:_LONGEST_REASON_BYTES].decode(errors="ignore")
    code = _POLICY if refusal.retry_after_seconds is None else _TRY_AGAIN_LATER
    await send({"type": "websocket.close", "code": code, "reason": reason})
