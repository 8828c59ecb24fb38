"""The middleware over ASGI: who gets in, what is refused how, and what the application sees."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from rayserve_par.serving.admission.args import AdmissionArgs, ConcurrencyArgs, LimitArgs
from rayserve_par.serving.admission.concurrency import EngineLoad
from rayserve_par.serving.admission.context import (
    request_key_name,
    request_priority,
    request_usage,
)
from rayserve_par.serving.admission.gate import Gate
from rayserve_par.serving.admission.key_source import KeySource, open_key_source
from rayserve_par.serving.admission.keys import KeyEntry, KeySet, hash_of
from rayserve_par.serving.admission.ledger import Answer, Report
from rayserve_par.serving.admission.local_ledger import LocalLedger
from rayserve_par.serving.admission.middleware import AdmissionMiddleware
from rayserve_par.serving.admission.paths import is_public

CHAT = "/v1/chat/completions"
BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
NODE = "10.0.0.7"
OTHER = "203.0.113.9"


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


def gate_of(*keys: KeyEntry, **args: Any) -> Gate:
    source = KeySource(KeySet(keys)) if keys else None
    return Gate(
        AdmissionArgs(**args),
        names=("m", "alias"),
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


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/models", 200),
        ("/v1/responses/abc", 200),
        ("/version", 200),
        ("/openapi.json", 200),
        ("/docs", 200),
        ("/health", 200),
        ("/metrics", 404),
        ("/internal/anything", 404),
        ("/load", 404),
        ("/server_info", 404),
        ("/reset_prefix_cache", 404),
        ("/sleep", 404),
        ("/wake_up", 404),
        ("/collective_rpc", 404),
        ("/start_profile", 404),
        ("/v1/load_lora_adapter", 404),
        ("/v1/unload_lora_adapter", 404),
        ("/invocations", 404),
        ("/", 404),
        ("/v1", 404),
        ("/V1/models", 404),
        ("//metrics", 404),
        ("/docs/../metrics", 404),
    ],
)
def test_only_public_paths_reach_the_application(path: str, status: int) -> None:
    async def scenario() -> None:
        app = Application()
        async with served(app, gate_of(), root_path="/llama") as session:
            answer = await session.get(f"/llama{path}")
            assert answer.status_code == status
            assert len(app.seen) == (status == 200)
            if status == 404:
                assert error_of(answer)["code"] == "not_found"

    asyncio.run(scenario())


def test_the_status_document_is_the_middlewares_own() -> None:
    async def scenario() -> None:
        app = Application()
        gate = gate_of(key())
        async with served(app, gate, OTHER) as session:
            answer = await session.get("/internal/front")
            assert answer.json() == {
                "model": "m",
                "names": ["m", "alias"],
                "running": 3,
                "waiting": 1,
                "kv_usage": 0.25,
                "in_flight": 0,
                "limit": 512,
                "draining": False,
            }
            gate.draining = True
            assert (await session.get("/internal/front")).json()["draining"] is True
        assert app.seen == []

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("client", "front", "is_open", "status"),
    [
        ("127.0.0.1", False, False, 200),
        ("127.9.9.9", False, False, 200),
        ("::1", False, False, 200),
        ("::ffff:127.0.0.1", False, False, 200),
        (NODE, True, False, 200),
        (f"::ffff:{NODE}", True, False, 200),
        (NODE, False, False, 403),
        (OTHER, True, False, 403),  # the header alone can be forged
        (OTHER, False, False, 403),
        (OTHER, False, True, 200),
        ("not-an-address", False, False, 403),
    ],
)
def test_without_keys_only_this_machine_and_the_front_are_served(
    client: str, front: bool, is_open: bool, status: int
) -> None:
    async def scenario() -> None:
        headers = {"x-rayserve-par-front": "1"} if front else {}
        async with served(Application(), gate_of(open=is_open), client) as session:
            for answer in (
                await session.get("/v1/models", headers=headers),
                await session.post(CHAT, json=BODY, headers=headers),
            ):
                assert answer.status_code == status
                if status == 403:
                    assert "rayserve-par keys new" in error_of(answer)["message"]
            assert (await session.get("/health")).status_code == 200

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "missing_api_key"),
        ({"authorization": "Bearer "}, "missing_api_key"),
        ({"authorization": "Basic secret-alice"}, "missing_api_key"),
        ({"authorization": "Bearer secret-bob"}, "invalid_api_key"),
        ({"authorization": "Bearer secret-old"}, "invalid_api_key"),
        ({"x-api-key": "wrong"}, "invalid_api_key"),
        ({"authorization": "bearer secret-alice"}, None),
        ({"x-api-key": "secret-alice"}, None),
    ],
)
def test_keys(headers: dict[str, str], code: str | None) -> None:
    async def scenario() -> None:
        app = Application()
        gate = gate_of(key(), key("old", expires="2020-01-01"), open=True)
        async with served(app, gate, OTHER) as session:
            answer = await session.post(CHAT, json=BODY, headers=headers)
            if code is None:
                assert answer.status_code == 200
            else:
                assert answer.status_code == 401
                assert error_of(answer)["code"] == code
                assert app.seen == []
            assert (await session.get("/health")).status_code == 200
            assert (await session.options(CHAT)).status_code == 200

    asyncio.run(scenario())


def test_the_application_sees_the_body_the_priority_and_the_key() -> None:
    async def scenario() -> None:
        app = Application()
        limits = LimitArgs(tokens_per_minute=100)
        gate = gate_of(key(priority=-3, limits=limits), key("bob"))
        async with served(app, gate) as session:
            await session.post(CHAT, json=BODY, headers={**bearer(), "x-request-id": "mine"})
            await session.post(CHAT, json=BODY, headers=bearer("bob"))
        alice, bob = app.seen
        assert json.loads(alice["body"]) == BODY
        assert (alice["priority"], alice["key"], alice["usage"]) == (-3, "alice", "mine")
        assert (bob["priority"], bob["key"], bob["usage"]) == (0, "bob", None)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("models", "body", "status"),
    [
        (("m",), BODY, 200),
        (("m",), {**BODY, "model": "alias"}, 200),
        (("m",), {"messages": []}, 200),  # the instance's own model
        (("other",), BODY, 403),
        (("other",), {"messages": []}, 403),
        (("m",), {**BODY, "model": ["m"]}, 403),
    ],
)
def test_models_of_a_key(models: tuple[str, ...], body: Any, status: int) -> None:
    async def scenario() -> None:
        async with served(Application(), gate_of(key(models=models))) as session:
            answer = await session.post(CHAT, json=body, headers=bearer())
            assert answer.status_code == status
            if status == 403:
                assert error_of(answer)["code"] == "model_not_allowed"

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("path", "content", "status"),
    [
        (CHAT, b"{", 400),
        (CHAT, b"", 400),
        ("/v1/responses/abc/cancel", b"", 200),
        ("/v1/audio/transcriptions", b"--boundary\x00", 200),
        ("/tokenize", b'{"prompt": "a"}', 200),
        (CHAT, b'{"n": 9}', 400),
        (CHAT, b" " * 2000, 413),
    ],
)
def test_bodies(path: str, content: bytes, status: int) -> None:
    async def scenario() -> None:
        app = Application()
        gate = gate_of(max_body_bytes=1000)
        async with served(app, gate) as session:
            answer = await session.post(path, content=content)
            assert answer.status_code == status
            assert len(app.seen) == (status == 200)
            if status != 200:
                error_of(answer)
        assert gate.bodies.held_bytes == 0

    asyncio.run(scenario())


def test_a_body_without_a_length_is_cut_at_the_limit() -> None:
    async def scenario() -> None:
        sent = 0

        async def endless() -> Any:
            nonlocal sent
            for _ in range(1000):
                sent += 100
                yield b"x" * 100

        gate = gate_of(max_body_bytes=1000)
        async with served(Application(), gate) as session:
            answer = await session.post(CHAT, content=endless())
        assert answer.status_code == 413
        assert sent <= 1200
        assert gate.bodies.held_bytes == 0

    asyncio.run(scenario())


def test_all_bodies_together_are_bounded() -> None:
    async def scenario() -> None:
        app = Application()
        app.hold = True
        gate = gate_of(max_body_bytes=1000, max_buffered_bytes=1500)
        body = json.dumps({"prompt": "x" * 900}).encode()
        async with served(app, gate) as session:
            first = asyncio.create_task(session.post(CHAT, content=body))
            while not app.seen:
                await asyncio.sleep(0)
            second = await session.post(CHAT, content=body)
            assert second.status_code == 503
            assert second.headers["retry-after"] == "1"
            app.release.set()
            assert (await first).status_code == 200
            assert (await session.post(CHAT, content=body)).status_code == 200
        assert gate.bodies.held_bytes == 0

    asyncio.run(scenario())


def test_requests_per_minute_and_concurrency() -> None:
    async def scenario() -> None:
        app = Application()
        gate = gate_of(
            key(limits=LimitArgs(requests_per_minute=3)),
            key("bob", limits=LimitArgs(concurrency=2)),
        )
        async with served(app, gate) as session:
            answers = [await session.post(CHAT, json=BODY, headers=bearer()) for _ in range(5)]
            assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
            assert error_of(answers[3])["type"] == "requests"
            assert 15 <= int(answers[3].headers["retry-after"]) <= 20
            assert "x-rayserve-par-shed" not in answers[3].headers
            reads = [await session.get("/v1/models", headers=bearer()) for _ in range(5)]
            assert {answer.status_code for answer in reads} == {200}

            app.hold = True
            both = [
                asyncio.create_task(session.post(CHAT, json=BODY, headers=bearer("bob")))
                for _ in range(2)
            ]
            await asyncio.sleep(0.05)
            third = await session.post(CHAT, json=BODY, headers=bearer("bob"))
            assert third.status_code == 429
            assert error_of(third)["type"] == "concurrency"
            app.release.set()
            assert {answer.status_code for answer in await asyncio.gather(*both)} == {200}
            await asyncio.sleep(0.06)
            after = await session.post(CHAT, json=BODY, headers=bearer("bob"))
            assert after.status_code == 200

    asyncio.run(scenario())


def test_tokens_are_charged_when_the_engine_reports_them() -> None:
    async def scenario() -> None:
        app = Application()
        gate = gate_of(key(limits=LimitArgs(tokens_per_minute=100)))
        async with served(app, gate) as session:
            answer = await session.post(CHAT, json=BODY, headers=bearer())
            assert answer.status_code == 200
            gate.usage.on_finished(f"chatcmpl-{app.seen[0]['usage']}", 60, 50)
            await asyncio.sleep(0.05)
            answer = await session.post(CHAT, json=BODY, headers=bearer())
            assert answer.status_code == 429
            assert error_of(answer)["type"] == "tokens"

    asyncio.run(scenario())


def test_two_requests_never_share_an_id() -> None:
    async def scenario() -> None:
        app = Application()
        app.hold = True
        gate = gate_of(key(limits=LimitArgs(tokens_per_minute=100)))
        headers = {**bearer(), "x-request-id": "same"}
        async with served(app, gate) as session:
            both = [
                asyncio.create_task(session.post(CHAT, json=BODY, headers=headers))
                for _ in range(2)
            ]
            await asyncio.sleep(0.05)
            app.release.set()
            await asyncio.gather(*both)
        first, second = app.seen
        assert first["usage"] == first["headers"]["x-request-id"] == "same"
        assert second["usage"] == second["headers"]["x-request-id"] != "same"

    asyncio.run(scenario())


def test_limits_of_all_without_a_key_and_of_keys_without_their_own() -> None:
    async def scenario() -> None:
        limited = LimitArgs(requests_per_minute=1)
        async with served(Application(), gate_of(anonymous_limits=limited)) as session:
            statuses = [(await session.post(CHAT, json=BODY)).status_code for _ in range(2)]
            assert statuses == [200, 429]
        gate = gate_of(key(), key("bob"), default_limits=limited)
        async with served(Application(), gate) as session:
            for name in ("alice", "bob"):
                answers = [
                    await session.post(CHAT, json=BODY, headers=bearer(name)) for _ in range(2)
                ]
                assert [answer.status_code for answer in answers] == [200, 429]

    asyncio.run(scenario())


def test_an_instance_at_its_limit_sheds_and_gives_back_the_keys_units() -> None:
    async def scenario() -> None:
        app = Application()
        app.hold = True
        gate = gate_of(
            key(limits=LimitArgs(requests_per_minute=3, concurrency=3)),
            key("boss", priority=-1),
            concurrency=ConcurrencyArgs(mode="fixed", limit=2, reserve=0),
        )
        async with served(app, gate) as session:
            held = [
                asyncio.create_task(session.post(CHAT, json=BODY, headers=bearer()))
                for _ in range(2)
            ]
            await asyncio.sleep(0.05)
            for _ in range(5):
                answer = await session.post(CHAT, json=BODY, headers=bearer())
                assert answer.status_code == 503
                assert error_of(answer)["code"] == "overloaded"
                assert answer.headers["x-rayserve-par-shed"] == "1"
                assert int(answer.headers["retry-after"]) >= 1
            held.append(asyncio.create_task(session.post(CHAT, json=BODY, headers=bearer("boss"))))
            await asyncio.sleep(0.05)
            assert gate.status()["in_flight"] == 3
            models = await session.get("/v1/models", headers=bearer())
            assert models.status_code == 200
            app.release.set()
            assert {answer.status_code for answer in await asyncio.gather(*held)} == {200}
            last = await session.post(CHAT, json=BODY, headers=bearer())
            assert last.status_code == 200  # the third of three: refusals cost nothing
        assert gate.status()["in_flight"] == 0

    asyncio.run(scenario())


def test_a_draining_instance_sends_new_requests_away_and_finishes_its_own() -> None:
    async def scenario() -> None:
        app = Application()
        app.hold = True
        gate = gate_of()
        async with served(app, gate) as session:
            running = asyncio.create_task(session.post(CHAT, json=BODY))
            await asyncio.sleep(0.05)
            gate.draining = True
            answer = await session.post(CHAT, json=BODY)
            assert answer.status_code == 503
            assert answer.headers["connection"] == "close"
            assert answer.headers["x-rayserve-par-shed"] == "1"
            assert answer.headers["retry-after"] == "1"
            app.release.set()
            assert (await running).status_code == 200

    asyncio.run(scenario())


@pytest.mark.parametrize("by_header", [True, False])
def test_a_deadline_before_the_first_part_is_504_and_cancels_the_application(
    by_header: bool,
) -> None:
    async def scenario() -> None:
        app = Application()
        app.hold = True
        gate = gate_of(request_timeout_s=None if by_header else 0.2)
        headers = {"x-request-timeout-seconds": "0.2"} if by_header else {}
        async with served(app, gate) as session:
            answer = await session.post(CHAT, json=BODY, headers=headers)
        assert answer.status_code == 504
        assert error_of(answer)["code"] == "timeout"
        assert app.cancelled == 1
        assert gate.status()["in_flight"] == 0

    asyncio.run(scenario())


@pytest.mark.parametrize("value", ["0", "-1", "soon", "nan", "inf"])
def test_a_deadline_that_is_none_is_ignored(value: str) -> None:
    async def scenario() -> None:
        async with served(Application(), gate_of()) as session:
            answer = await session.post(
                CHAT, json=BODY, headers={"x-request-timeout-seconds": value}
            )
        assert answer.status_code == 200

    asyncio.run(scenario())


async def stream(send: Any, parts: int, *, media: bytes = b"text/event-stream") -> None:
    head = [(b"content-type", media)]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    for index in range(parts):
        data = b'data: {"part": %d}\n\n' % index
        await send({"type": "http.response.body", "body": data, "more_body": True})


def test_a_deadline_within_a_stream_ends_it_with_an_error_event() -> None:
    async def scenario() -> None:
        async def app(_scope: Any, _receive: Any, send: Any) -> None:
            await stream(send, 2)
            await asyncio.sleep(60)

        async with served(app, gate_of(request_timeout_s=0.2)) as session:
            answer = await session.post(CHAT, json={**BODY, "stream": True})
        assert answer.status_code == 200
        events = answer.text.strip().split("\n\n")
        assert events[:2] == ['data: {"part": 0}', 'data: {"part": 1}']
        assert json.loads(events[2].removeprefix("data: "))["error"]["code"] == "timeout"
        assert events[3] == "data: [DONE]"

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "when", ["before", "after_start", "no_answer", "start_only", "own_timeout"]
)
def test_an_application_that_fails_before_its_first_part_is_a_500(when: str) -> None:
    async def scenario() -> None:
        async def app(_scope: Any, _receive: Any, send: Any) -> None:
            if when == "before":
                raise ValueError("inner")
            if when == "own_timeout":
                raise TimeoutError("inner")
            if when in {"after_start", "start_only"}:
                await send({"type": "http.response.start", "status": 200, "headers": []})
            if when == "after_start":
                raise ValueError("inner")

        gate = gate_of(request_timeout_s=30)
        async with served(app, gate) as session:
            for request in (session.post(CHAT, json=BODY), session.get("/v1/models")):
                answer = await request
                assert answer.status_code == 500
                assert error_of(answer)["code"] == "internal"
                assert "inner" not in answer.text
        assert gate.status()["in_flight"] == 0
        assert gate.outcomes["failed"] == 2

    asyncio.run(scenario())


def test_an_application_that_fails_within_a_stream_ends_it_with_an_error_event() -> None:
    async def scenario() -> None:
        async def app(_scope: Any, _receive: Any, send: Any) -> None:
            await stream(send, 1)
            raise ValueError("inner")

        async with served(app, gate_of()) as session:
            answer = await session.post(CHAT, json={**BODY, "stream": True})
        assert '"code": "internal"' in answer.text
        assert answer.text.endswith("data: [DONE]\n\n")

    asyncio.run(scenario())


def test_the_start_is_held_until_the_first_part() -> None:
    async def scenario() -> None:
        sent: list[str] = []
        gate = gate_of()
        first = asyncio.Event()

        async def app(_scope: Any, _receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await first.wait()
            await send({"type": "http.response.body", "body": b"x", "more_body": False})

        async def receive() -> Any:
            return {"type": "http.request", "body": b"{}", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message["type"])

        scope = {
            "type": "http",
            "method": "POST",
            "path": CHAT,
            "headers": [],
            "client": ("127.0.0.1", 1),
        }
        task = asyncio.create_task(AdmissionMiddleware(app, gate)(scope, receive, send))
        await asyncio.sleep(0.02)
        assert sent == []
        first.set()
        await task
        assert sent == ["http.response.start", "http.response.body"]

    asyncio.run(scenario())


@pytest.mark.parametrize("by_deadline", [True, False])
def test_a_cut_while_the_client_does_not_read_reaches_the_generator(by_deadline: bool) -> None:
    """A generator that is left at its yield would keep its request in the engine."""

    async def scenario() -> None:
        ended: list[str] = []
        blocked = asyncio.Event()

        async def parts() -> AsyncIterator[bytes]:
            try:
                yield b"data: 1\n\n"
                yield b"data: 2\n\n"
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                ended.append("cancelled")
                raise

        kept = parts()  # as a garbage cycle would keep it

        async def app(_scope: Any, _receive: Any, send: Any) -> None:
            await stream(send, 0)
            async for part in kept:
                await send({"type": "http.response.body", "body": part, "more_body": True})

        async def receive() -> Any:
            return {"type": "http.request", "body": b"{}", "more_body": False}

        async def send(message: Any) -> None:
            if message.get("body") == b"data: 2\n\n":
                blocked.set()
                await asyncio.sleep(60)

        gate = gate_of(request_timeout_s=0.2 if by_deadline else None)
        scope = {"type": "http", "method": "POST", "path": CHAT, "headers": [], "client": None}
        task = asyncio.create_task(AdmissionMiddleware(app, gate)(scope, receive, send))
        await blocked.wait()
        if not by_deadline:
            task.cancel()  # as Serve does when the client left
        await asyncio.wait({task}, timeout=5)
        assert task.cancelled() is not by_deadline
        assert ended == ["cancelled"]
        assert gate.outcomes == {"timeout" if by_deadline else "client_gone": 1}
        assert gate.status()["in_flight"] == 0

    asyncio.run(scenario())


def test_a_websocket_without_a_key_is_closed() -> None:
    async def scenario() -> None:
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None:
            sent.append(message)

        async def app(_scope: Any, _receive: Any, send: Any) -> None:
            await send({"type": "websocket.accept"})

        middleware = AdmissionMiddleware(app, gate_of(key()))
        scope = {"type": "websocket", "path": "/v1/realtime", "headers": []}
        await middleware(dict(scope), receive, send)
        assert [message["type"] for message in sent] == ["websocket.close"]
        scope["headers"] = [(b"authorization", b"Bearer secret-alice")]
        await middleware(dict(scope), receive, send)
        assert sent[-1]["type"] == "websocket.accept"

    asyncio.run(scenario())


def form_of(*models: str, name: str = "model") -> tuple[bytes, dict[str, str]]:
    parts = [
        f'--B\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n{model}\r\n'
        for model in models
    ]
    sound = '--B\r\ncontent-disposition: form-data; name="file"; filename="model"\r\n\r\nx\r\n'
    return (
        "".join([sound, *parts, "--B--\r\n"]).encode(),
        {"content-type": "multipart/form-data; boundary=B"},
    )


@pytest.mark.parametrize(
    ("models", "name", "status"),
    [
        (("m",), "model", 200),
        (("alias",), "model", 200),
        ((), "model", 200),
        (("adapter",), "model", 403),
        (("m", "adapter"), "model", 403),
        (("adapter", "m"), "model", 403),
        (("adapter",), "xmodel", 200),  # another field
    ],
)
def test_models_of_a_key_hold_for_forms(models: tuple[str, ...], name: str, status: int) -> None:
    async def scenario() -> None:
        body, headers = form_of(*models, name=name)
        app = Application()
        async with served(app, gate_of(key(models=("m",)))) as session:
            path = "/v1/audio/transcriptions"
            answer = await session.post(path, content=body, headers={**headers, **bearer()})
            assert answer.status_code == status
            assert [seen["body"].encode() for seen in app.seen] == [body] * (status == 200)
            broken = {"content-type": "multipart/form-data"}
            answer = await session.post(path, content=body, headers={**broken, **bearer()})
            assert answer.status_code == 400
            assert error_of(answer)["code"] == "invalid_form"

    asyncio.run(scenario())


@pytest.mark.parametrize("path", ["/v1/load_lora_adapter\n", "/v1/models\0", "/v1/models\x7f"])
def test_paths_with_control_characters_are_not_public(path: str) -> None:
    assert not is_public(path)
    assert is_public("/v1/models/one two")


class SlowLedger(LocalLedger):
    """Answers once `open` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.open = asyncio.Event()

    async def exchange(self, report: Report) -> Answer:
        await self.open.wait()
        return await super().exchange(report)


def test_limits_that_come_while_the_ledger_is_slow_hold_and_stay_right(tmp_path: Path) -> None:
    async def scenario() -> None:
        file = tmp_path / "keys.yaml"
        entry = {"name": "alice", "sha256": hash_of("secret-alice")}
        file.write_text(json.dumps({"keys": [entry]}))
        app, ledger = Application(), SlowLedger()
        gate = Gate(AdmissionArgs(), names=("m",), keys=open_key_source(str(file)), ledger=ledger)
        async with served(app, gate) as session:
            limited = {**entry, "limits": {"concurrency": 1}}
            file.write_text(json.dumps({"keys": [limited]}))
            await asyncio.sleep(1.3)  # keys are read again, the ledger has not answered
            app.hold = True
            for _ in range(2):
                held = asyncio.create_task(session.post(CHAT, json=BODY, headers=bearer()))
                await asyncio.sleep(0.05)
                refused = await session.post(CHAT, json=BODY, headers=bearer())
                assert refused.status_code == 429
                ledger.open.set()
                await asyncio.sleep(0.1)
                app.release.set()
                assert (await held).status_code == 200
                app.release.clear()
                await asyncio.sleep(0.1)

    asyncio.run(scenario())


def test_a_slow_duty_does_not_hold_up_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        monkeypatch.setattr("rayserve_par.serving.admission.gate._ADDRESSES_SECONDS", 0.1)
        go_on = threading.Event()
        asked = observed = 0

        def addresses() -> list[str]:
            nonlocal asked
            asked += 1
            if asked > 1:
                go_on.wait(10)
            return [NODE]

        def load() -> EngineLoad:
            nonlocal observed
            observed += 1
            return EngineLoad()

        gate = Gate(AdmissionArgs(), names=("m",), node_addresses=addresses, engine_load=load)
        await gate.start()
        assert gate.addresses == {NODE}
        await asyncio.sleep(1.4)
        go_on.set()
        assert asked == 2
        assert observed >= 2
        await gate.stop()

    asyncio.run(scenario())


@pytest.mark.parametrize(("keys", "is_open"), [((), True), ((key(),), False)])
def test_addresses_are_not_asked_for_where_nobody_needs_them(
    keys: tuple[KeyEntry, ...], is_open: bool
) -> None:
    async def scenario() -> None:
        gate = gate_of(*keys, open=is_open)
        await gate.start()
        assert gate.addresses == frozenset()
        await gate.stop()

    asyncio.run(scenario())


def test_a_cut_while_the_start_is_sent_reaches_the_generator() -> None:
    async def scenario() -> None:
        ended: list[str] = []
        blocked = asyncio.Event()

        async def parts() -> AsyncIterator[bytes]:
            try:
                yield b"data: 1\n\n"
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                ended.append("cancelled")
                raise

        kept = parts()

        async def app(_scope: Any, _receive: Any, send: Any) -> None:
            await stream(send, 0)
            async for part in kept:
                await send({"type": "http.response.body", "body": part, "more_body": True})

        async def receive() -> Any:
            return {"type": "http.request", "body": b"{}", "more_body": False}

        async def send(_message: Any) -> None:
            blocked.set()
            await asyncio.sleep(60)

        scope: dict[str, Any] = {
            "type": "http",
            "method": "POST",
            "path": CHAT,
            "headers": [],
            "client": None,
        }
        task = asyncio.create_task(AdmissionMiddleware(app, gate_of())(scope, receive, send))
        await blocked.wait()
        task.cancel()
        await asyncio.wait({task}, timeout=5)
        assert task.cancelled()
        assert ended == ["cancelled"]

    asyncio.run(scenario())


@pytest.mark.parametrize("as_http", [True, False])
def test_a_websocket_holds_its_keys_limits_and_the_instances(as_http: bool) -> None:
    async def scenario() -> None:
        end = asyncio.Event()

        async def receive() -> Any:
            return {"type": "websocket.connect"}

        async def app(_scope: Any, _receive: Any, send: Any) -> None:
            await send({"type": "websocket.accept"})
            await end.wait()

        gate = gate_of(
            key(limits=LimitArgs(concurrency=1)),
            key("bob"),
            key("eve", models=("other",)),
            concurrency=ConcurrencyArgs(mode="fixed", limit=1, reserve=0),
        )
        middleware = AdmissionMiddleware(app, gate)

        async def opened(name: str) -> list[Any]:
            sent: list[Any] = []

            async def send(message: Any) -> None:
                sent.append(message)

            await middleware(
                {
                    "type": "websocket",
                    "path": "/v1/realtime",
                    "headers": [(b"authorization", b"Bearer secret-%s" % name.encode())],
                    "extensions": {"websocket.http.response": {}} if as_http else {},
                },
                receive,
                send,
            )
            return sent

        await gate.start()
        first = asyncio.create_task(opened("alice"))
        await asyncio.sleep(0.05)
        assert gate.status()["in_flight"] == len(gate.responses) == 1
        for name, status, code in [("alice", 429, 1013), ("bob", 503, 1013), ("eve", 403, 1008)]:
            sent = await opened(name)
            if as_http:
                assert sent[0]["type"] == "websocket.http.response.start"
                assert sent[0]["status"] == status
                assert sent[1]["type"] == "websocket.http.response.body"
            else:
                assert sent[0]["type"] == "websocket.close"
                assert sent[0]["code"] == code
                assert sent[0]["reason"]
        end.set()
        assert [message["type"] for message in await first] == ["websocket.accept"]
        assert gate.status()["in_flight"] == len(gate.responses) == 0
        await asyncio.sleep(0.1)
        assert (await opened("alice"))[0]["type"] == "websocket.accept"
        await gate.stop()

    asyncio.run(scenario())


def test_a_long_body_leaves_the_loop_free() -> None:
    async def scenario() -> None:
        body = b'{"n":9,"x":[' + b"1e307," * 500_000 + b"1]}"
        turns = 0

        async def turn() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0.001)
                turns += 1

        async with served(Application(), gate_of()) as session:
            turning = asyncio.create_task(turn())
            answer = await session.post(CHAT, content=body)
            turning.cancel()
        assert answer.status_code == 400
        assert turns >= 5

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nowhere", 404, "not_found"),
        ("POST", "/v1/nowhere", 404, "not_found"),
        ("GET", CHAT, 405, "method_not_allowed"),
        ("DELETE", CHAT, 405, "method_not_allowed"),
    ],
)
def test_the_framework_s_own_refusals_get_openai_s_form(
    method: str, path: str, status: int, code: str
) -> None:
    async def answer() -> dict[str, str]:
        return {"detail": "an answer of the application"}

    app = FastAPI()
    app.post(CHAT)(answer)

    async def scenario() -> None:
        async with served(app, gate_of()) as client:
            refused = await client.request(method, path, json=BODY)
            assert refused.status_code == status
            assert error_of(refused)["code"] == code
            assert refused.headers.get("allow") == ("POST" if status == 405 else None)
            # What the application says itself stays as it is.
            assert (await client.post(CHAT, json=BODY)).json()["detail"].startswith("an answer")

    asyncio.run(scenario())


@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize(
    ("status", "media", "body"),
    [
        (500, "application/json", b'{"error": {"message": "EngineDeadError"}}'),
        (200, "text/event-stream", b'data: {"error": {"message": "EngineDeadError"}}\n\n'),
    ],
)
def test_an_ended_engine_s_error_becomes_a_503_that_is_tried_elsewhere(
    status: int, media: str, body: bytes, ended: bool
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        del scope
        await receive()
        head = [(b"content-type", media.encode())]
        await send({"type": "http.response.start", "status": status, "headers": head})
        await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def scenario() -> None:
        gate = gate_of()
        gate.engine_failed = lambda: ended
        async with served(app, gate) as client:
            answer = await client.post(CHAT, json=BODY)
            assert answer.status_code == (503 if ended else status)
            assert ("x-rayserve-par-shed" in answer.headers) == ended
            assert (answer.content == body) == (not ended)
            assert gate.limit.in_flight == 0

    asyncio.run(scenario())
