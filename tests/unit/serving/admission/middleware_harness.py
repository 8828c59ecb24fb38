"""An application behind the admission, and what its clients send."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx

from rayserve_par.serving.admission.args import AdmissionArgs
from rayserve_par.serving.admission.concurrency import EngineLoad
from rayserve_par.serving.admission.context import (
    request_key_name,
    request_priority,
    request_usage,
)
from rayserve_par.serving.admission.gate import Gate
from rayserve_par.serving.admission.key_source import KeySource
from rayserve_par.serving.admission.keys import KeyEntry, KeySet, hash_of
from rayserve_par.serving.admission.middleware import AdmissionMiddleware

CHAT = "/v1/chat/completions"


BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


NODE = "10.0.0.7"


class Application:
    """Answers with what it saw; holds a chat until `release`, if told to."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.hold = False
        self.release = asyncio.Event()
        self.cancelled = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        if scope["method"] == "POST":
            message = await receive()
            body = message["body"]
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        usage = request_usage.get()
        self.seen.append(
            {
                "path": scope["path"],
                "body": body.decode(),
                "headers": headers,
                "priority": request_priority.get(),
                "key": request_key_name.get(),
                "usage": None if usage is None else usage.request_id,
            }
        )
        if self.hold and scope["method"] == "POST":
            try:
                await self.release.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        head = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": b'{"ok": true}'})


Ask = Callable[..., Awaitable[httpx.Response]]


@asynccontextmanager
async def served(app: Any, gate: Gate, client: str = "127.0.0.1", root_path: str = "") -> Any:
    await gate.start()
    transport = httpx.ASGITransport(
        AdmissionMiddleware(app, gate),  # type: ignore[arg-type]
        client=(client, 1234),
        root_path=root_path,
    )
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as session:
            yield session
    finally:
        await gate.stop()


def gate_of(*keys: KeyEntry, facts: dict[str, object] | None = None, **args: Any) -> Gate:
    source = KeySource(KeySet(keys)) if keys else None
    return Gate(
        AdmissionArgs(**args),
        names=("m", "alias"),
        facts=facts,
        keys=source,
        node_addresses=lambda: [NODE],
        engine_load=lambda: EngineLoad(3, 1, 0.25),
    )


def key(name: str = "alice", **fields: Any) -> KeyEntry:
    return KeyEntry(name=name, sha256=hash_of(f"secret-{name}"), **fields)


def bearer(name: str = "alice") -> dict[str, str]:
    return {"authorization": f"Bearer secret-{name}"}


def error_of(answer: httpx.Response) -> dict[str, Any]:
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error
