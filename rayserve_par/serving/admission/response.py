"""One answer on its way to the client.

Its start is held back until its first part: until then the request can fail as a whole, be
answered with an error, or be tried elsewhere by the front. Afterwards each part costs a few
attribute writes; whether a client still reads is seen by a sweep over all answers, which notices a
`send` that does not return.

A client that leaves is noticed by whoever waits in `receive`: the application until it has an
answer's start, then a task here, which cancels the request's. So the application need not watch a
stream itself, for which Starlette would run it in a task of its own beside one that waits.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace

from rayserve_par.serving.admission.refusal import Message, Receive, Refusal, Send, shed

_EVENT_STREAM = b"text/event-stream"
_ERROR_EVENT = b'data: {"error"'
# Starlette's body of a path or method that no route has; vLLM's own errors are in OpenAI's form.
_FRAMEWORKS_ERROR = b'{"detail"'
NO_ENDPOINT = Refusal(404, "There is no such endpoint.", code="not_found")
WRONG_METHOD = Refusal(405, "This endpoint has other methods.", code="method_not_allowed")
ENGINE_ENDED = shed("The engine of this instance has ended; others take new requests.", 1.0)


class Response:
    """The sending side of one request; `task` is what is cancelled to cut it.

    `on_first` is called before the answer's first part is sent, `on_last` before its last: a client
    that has the last part may be back with its next request before the application returns.
    `receive` is the server's, if the client shall be watched.
    `gone` says that nothing is sent any more; `left`, that the task was cancelled since the client
    left; `stalled`, since it took nothing.
    """

    __slots__ = (
        "_engine_failed",
        "_first_bytes",
        "_on_first",
        "_on_last",
        "_send",
        "_start",
        "_watch",
        "blocked",
        "complete",
        "gone",
        "is_stream",
        "left",
        "parts",
        "receive",
        "seen_part",
        "seen_seconds",
        "stalled",
        "started",
        "status",
        "task",
    )

    def __init__(
        self,
        send: Send,
        on_first: Callable[[Response], None],
        on_last: Callable[[Response], None] = lambda _: None,
        engine_failed: Callable[[], bool] = lambda: False,
    ) -> None:
        self._send = send
        self._engine_failed = engine_failed
        self._on_first = on_first
        self._on_last = on_last
        self._start: Message | None = None
        self._first_bytes = 0
        self._watch: asyncio.Task[None] | None = None
        self.task: asyncio.Task[object] | None = None
        self.receive: Receive | None = None
        self.status = 0
        self.is_stream = False
        self.started = False
        self.complete = False
        self.blocked = False
        self.gone = False
        self.left = False
        self.stalled = False
        self.parts = 0
        self.seen_part = -1
        self.seen_seconds = 0.0

    async def send(self, message: Message) -> None:
        """ASGI's send for the application."""
        if self.complete or self.gone:
            return
        if self.started:
            self.parts += 1
            last = not message.get("more_body", False)
            if last:
                self.close()
                self._on_last(self)
            self.blocked = True
            try:
                await self._send(message)
            except asyncio.CancelledError:
                self._cancel_the_source()
                return
            self.blocked = False
            self.complete = last
            return
        if message["type"] == "http.response.start":
            self._hold(message)
            return
        if self._start is None:
            raise RuntimeError(f"{message['type']} was sent before http.response.start")
        instead = self._instead(self._start, message)
        if instead is not None:
            await self.fail(instead)
            return
        if await self._begin(self._start, message):
            await self.send(message)

    def _hold(self, start: Message) -> None:
        """Keep the start until the first part; whose length is not known yet may take long."""
        self._start = start
        self.status = start["status"]
        headers = dict(start.get("headers", ()))
        self.is_stream = headers.get(b"content-type", b"").startswith(_EVENT_STREAM)
        if b"content-length" not in headers and self.receive is not None:
            self._watch = asyncio.create_task(self._watch_client(self.receive))

    async def _begin(self, start: Message, first: Message) -> bool:
        """Send the start that was held back; False where that was cut."""
        self.started = True
        self._first_bytes = len(first.get("body", b""))
        self._on_first(self)
        self.blocked = True
        try:
            await self._send(start)
        except asyncio.CancelledError:
            self._cancel_the_source()
            return False
        self.blocked = False
        return True

    async def _watch_client(self, receive: Receive) -> None:
        # The body was read: the server has nothing else to say, and says it after the end too.
        if (await receive())["type"] == "http.disconnect" and self.task is not None:
            self.gone = self.left = True
            self.task.cancel()

    def close(self) -> None:
        """The answer ends: its client is watched no more."""
        if self._watch is not None:
            self._watch.cancel()

    def _cancel_the_source(self) -> None:
        """Let a cancellation that met a blocked `send` reach what makes the parts.

        Raised here, it would leave an async generator suspended at its `yield`, closed by the
        garbage collector some day; its request would keep the engine's memory until then. So this
        part is dropped, and the task is cancelled again where it waits next: in the generator.
        """
        self.gone = True
        task = asyncio.current_task()
        assert task is not None, "a cancellation comes through a task"
        task.uncancel()
        asyncio.get_running_loop().call_soon(task.cancel)

    @property
    def estimated_tokens(self) -> int:
        """Tokens of the answer: a part of a stream is one or more, four bytes of JSON are one."""
        return self.parts if self.is_stream else self._first_bytes // 4

    def _instead(self, start: Message, first: Message) -> Refusal | None:
        """What is answered in place of an ended engine's error, or of the framework's own 404."""
        body: bytes = first.get("body", b"")
        is_error = self.status >= 500 or body.startswith(_ERROR_EVENT)
        if is_error and self._engine_failed():
            return ENGINE_ENDED
        if self.status == 404 and body.startswith(_FRAMEWORKS_ERROR):
            return NO_ENDPOINT
        if self.status == 405 and body.startswith(_FRAMEWORKS_ERROR):
            allowed = tuple(pair for pair in start.get("headers", ()) if pair[0] == b"allow")
            return replace(WRONG_METHOD, headers=allowed)
        return None

    def look(self, seconds: float, limit_seconds: float) -> None:
        """A sweep `seconds` after the last one: cut the answer if its client takes nothing."""
        if not self.blocked or self.parts != self.seen_part:
            self.seen_part, self.seen_seconds = self.parts, 0.0
            return
        self.seen_seconds += seconds
        if self.seen_seconds >= limit_seconds and self.task is not None and not self.stalled:
            self.stalled = True
            self.task.cancel()

    async def fail(self, refusal: Refusal) -> None:
        """End with an error: as the answer, or as an event of the stream that has begun.

        An answer that has begun and is no event stream stays incomplete, so that the server closes
        the connection and the client sees that it was cut.
        """
        if self.complete:
            return
        if not self.started:
            self.status = refusal.status
            await refusal.send(self._send)
        elif self.is_stream:
            event = {**refusal.error["error"], "code": refusal.code or refusal.status}
            data = b"data: %s\n\ndata: [DONE]\n\n" % json.dumps({"error": event}).encode()
            await self._send({"type": "http.response.body", "body": data, "more_body": False})
        self.complete = True
