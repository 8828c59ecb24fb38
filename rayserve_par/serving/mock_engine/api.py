"""The mock engine's HTTP side: a bare ASGI app with OpenAI's paths.

Bare because it shall cost next to nothing: eight of them and a proxy run on two cores. It answers
/v1/chat/completions, /v1/completions, /v1/models, /health, /ping and /version; the rest is 404.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Any

from rayserve_par.serving.admission.context import request_key_name, request_priority
from rayserve_par.serving.mock_engine.engine import EngineEndedError, MockEngine
from rayserve_par.serving.mock_engine.openai_answer import (
    DONE,
    Chunks,
    compact,
    error_body,
    full_body,
    models_body,
)
from rayserve_par.serving.mock_engine.openai_request import Ask, BadRequestError, read_ask
from rayserve_par.serving.mock_engine.status import EngineStatus

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

_JSON = ((b"content-type", b"application/json"),)
_EVENTS = ((b"content-type", b"text/event-stream; charset=utf-8"),)
_GENERATING = {"/v1/chat/completions": True, "/v1/completions": False}


class MockApi:
    """The app of one mock engine that serves `names`, the first of them the model's own."""

    def __init__(self, engine: MockEngine, names: tuple[str, ...]) -> None:
        self.engine = engine
        self.names = names
        self._created = int(time.time())
        self._in_flight = 0

    @property
    def status(self) -> EngineStatus:
        """The status document's values now."""
        scheduler = self.engine.scheduler
        return EngineStatus(
            model=self.names[0],
            names=self.names,
            running=scheduler.running,
            waiting=scheduler.waiting,
            kv_usage=round(scheduler.kv_usage, 4),
            in_flight=self._in_flight,
            limit=self.engine.times.max_num_seqs,
            draining=False,
            prefix_query_tokens=scheduler.prefix_query_tokens,
            prefix_hit_tokens=scheduler.prefix_hit_tokens,
            preemptions=scheduler.preemptions,
        )

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """An ASGI call."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)

    async def _http(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix(scope.get("root_path", "").rstrip("/"))
        wanted = "POST" if path in _GENERATING else "GET"
        if scope["method"] == wanted and path in _GENERATING:
            self._in_flight += 1
            try:
                await self._generate(scope, receive, send, chat=_GENERATING[path])
            finally:
                self._in_flight -= 1
        elif path == "/v1/models" and scope["method"] == wanted:
            longest = self.engine.times.max_model_len
            await answer(send, 200, models_body(self.names, longest, self._created))
        elif path in ("/health", "/ping"):
            await self._health(send)
        elif path == "/version":
            await answer(send, 200, compact({"version": "mock"}))
        elif path in _GENERATING or path == "/v1/models":
            await answer(send, 405, error_body("Method Not Allowed", 405))
        else:
            await answer(send, 404, error_body("Not Found", 404))

    async def _health(self, send: Send) -> None:
        try:
            await self.engine.check_health()
        except Exception as error:
            await answer(send, 503, error_body(str(error), 503))
        else:
            await answer(send, 200, b"")

    async def _generate(
        self, scope: MutableMapping[str, Any], receive: Receive, send: Send, *, chat: bool
    ) -> None:
        body = await _read_body(receive)
        if body is None:
            return
        name = dict(scope.get("headers", ())).get(b"x-request-id", b"").decode("latin-1")
        try:
            ask = read_ask(body, name or uuid.uuid4().hex, chat=chat, times=self.engine.times)
            ask = _with_callers_priority(ask)
            if ask.model and ask.model not in self.names:
                raise BadRequestError(
                    f"The model `{ask.model}` does not exist.", status=404, param="model"
                )
        except BadRequestError as error:
            await answer(send, error.status, error_body(str(error), error.status, error.param))
            return
        task = asyncio.current_task()
        assert task is not None, "ASGI apps run in tasks"
        watch = asyncio.create_task(_cancel_on_disconnect(receive, task))
        try:
            if ask.stream:
                await self._stream(ask, send)
            else:
                await self._whole(ask, send)
        except asyncio.CancelledError:
            if not watch.done():
                raise  # not the client's leaving: the server stops this request
            task.uncancel()
        finally:
            watch.cancel()

    async def _stream(self, ask: Ask, send: Send) -> None:
        model = ask.model or self.names[0]
        chunks = Chunks(ask, model, int(time.time()))
        await send({"type": "http.response.start", "status": 200, "headers": _EVENTS})
        sent, cached = 0, 0
        try:
            async with aclosing(self.engine.generate(ask.request)) as made:
                async for count, cached in made:  # noqa: B007 (used after the loop)
                    data = chunks.tokens(sent, count)
                    await _send_more(send, data if sent else chunks.first() + data)
                    sent = count
            await send({"type": "http.response.body", "body": chunks.end(sent, cached)})
        except EngineEndedError as error:
            data = b"data: " + error_body(str(error), 500) + b"\n\n" + DONE
            await send({"type": "http.response.body", "body": data})

    async def _whole(self, ask: Ask, send: Send) -> None:
        cached = 0
        try:
            async with aclosing(self.engine.generate(ask.request)) as made:
                async for _, cached in made:  # noqa: B007 (used after the loop)
                    pass
        except EngineEndedError as error:
            await answer(send, 500, error_body(str(error), 500))
            return
        model = ask.model or self.names[0]
        await answer(send, 200, full_body(ask, model, int(time.time()), cached))


def _with_callers_priority(ask: Ask) -> Ask:
    """The priority of the caller's key, behind which its own request may stand back."""
    if request_key_name.get() is None:
        return ask
    priority = request_priority.get() + max(0, ask.request.priority)
    return replace(ask, request=replace(ask.request, priority=priority))


async def answer(send: Send, status: int, body: bytes) -> None:
    """Send a whole JSON response."""
    headers = (*_JSON, (b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _send_more(send: Send, data: bytes) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": True})


async def _read_body(receive: Receive) -> bytes | None:
    """The whole body, or None if the client left."""
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


async def _cancel_on_disconnect(receive: Receive, task: asyncio.Task[Any]) -> None:
    with suppress(asyncio.CancelledError):
        while (await receive())["type"] != "http.disconnect":
            pass
        task.cancel()


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return
