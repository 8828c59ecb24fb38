"""What the client sees: deadlines, failures before and within a stream, held starts."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import FastAPI
from middleware_harness import BODY, CHAT, Application, error_of, gate_of, served

from rayserve_par.serving.admission.middleware import AdmissionMiddleware


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
