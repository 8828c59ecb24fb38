"""The ASGI middleware: every request's way through admission, in the order of price.

    path not public        404    anything but what clients need
    draining               503    another instance may take it
    no key, wrong key      401    or, without keys, another host: 403
    body                   413, 408, 503   size, time, all bodies together
    model of another key   403
    JSON and its limits    400
    the key's limits       429
    the instance's limit   503    another instance may take it
    no answer in time      504    before the first part; later an error event ends the stream

Every refusal has OpenAI's error body. The application runs in the same task, so that whatever
cancels the request (Serve at a disconnect, a deadline, a client that stopped reading) cancels it at
once, and vLLM aborts its request. A disconnect also reaches it through `receive`, as vLLM's
handlers expect (vllm/entrypoints/serve/utils/api_utils.py `listen_for_disconnect`).
Websockets: see `websocket`.
"""

from __future__ import annotations

import json

from rayserve_par.serving.admission import paths
from rayserve_par.serving.admission.access import CLOSED, FRONT_HEADER, may_pass_without_keys
from rayserve_par.serving.admission.context import (
    request_key_name,
    request_priority,
    request_usage,
)
from rayserve_par.serving.admission.gate import Caller, Gate
from rayserve_par.serving.admission.refusal import (
    App,
    Receive,
    Refusal,
    Scope,
    Send,
    send_json,
    shed,
)
from rayserve_par.serving.admission.request import Request
from rayserve_par.serving.admission.websocket import refuse_websocket, serve_websocket

NOT_FOUND = Refusal(404, "There is no such path.", code="not_found")
NO_KEY = Refusal(
    401,
    "An API key is required: Authorization: Bearer KEY.",
    code="missing_api_key",
    headers=((b"www-authenticate", b"Bearer"),),
)
WRONG_KEY = Refusal(
    401,
    # OpenAI's own words: clients tell a wrong key from a wrong request by them.
    "Incorrect API key provided.",
    code="invalid_api_key",
    headers=((b"www-authenticate", b"Bearer"),),
)
DRAINING = shed("This instance is leaving; others take new requests.", 1.0, closing=True)


class AdmissionMiddleware:
    """Outermost around the application of one replica."""

    def __init__(self, app: App, gate: Gate) -> None:
        self._app = app
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        kind = scope["type"]
        if kind not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        path: str = scope["path"].removeprefix(scope.get("root_path", ""))
        if path in paths.FREE_PATHS:
            await self._app(scope, receive, send)
            return
        gate = self._gate
        if path == paths.STATUS_PATH:
            await send_json(send, 200, json.dumps(gate.status()).encode())
            return
        headers: dict[bytes, bytes] = dict(scope["headers"])
        caller = self._caller(path, scope, headers)
        if isinstance(caller, Refusal):
            gate.outcomes[caller.code or ""] += 1
            if kind == "http":
                await caller.send(send)
            else:
                await refuse_websocket(caller, scope, receive, send)
            return
        request_priority.set(caller.priority)
        request_key_name.set(caller.name)
        request_usage.set(None)
        if kind == "websocket":
            await serve_websocket(self._app, gate, caller, scope, receive, send)
        else:
            await Request(self._app, gate, caller, path, headers).run(scope, receive, send)

    def _caller(self, path: str, scope: Scope, headers: dict[bytes, bytes]) -> Caller | Refusal:
        gate = self._gate
        if not paths.is_public(path):
            return NOT_FOUND
        if gate.draining:
            return DRAINING
        preflight = scope.get("method") == "OPTIONS"  # browsers send it without the key
        if gate.has_keys and not preflight:
            secret = _secret(headers)
            return gate.caller(secret) or (NO_KEY if secret is None else WRONG_KEY)
        if not gate.has_keys and not gate.args.open:
            front = FRONT_HEADER in headers
            if not may_pass_without_keys(scope.get("client"), front, gate.addresses):
                return CLOSED
        return gate.anonymous


def _secret(headers: dict[bytes, bytes]) -> bytes | None:
    """The key of OpenAI's header, or of Anthropic's."""
    scheme, _, secret = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() == b"bearer" and secret.strip():
        return secret.strip()
    return headers.get(b"x-api-key") or None
