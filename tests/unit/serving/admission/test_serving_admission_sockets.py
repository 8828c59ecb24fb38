"""The middleware under a real server: slow clients, clients that leave, clients that do not read.

The application is Starlette with vLLM's two ways to notice a client that left: a streaming
response, and a handler raced against `receive` (vllm `with_cancellation`).
"""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from statistics import median
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from rayserve_par.serving.admission.args import AdmissionArgs, LimitArgs
from rayserve_par.serving.admission.gate import Gate
from rayserve_par.serving.admission.middleware import AdmissionMiddleware

PART = b"data: " + b"x" * 1000 + b"\n\n"


class Engine:
    """Counts what it works on, and what was cancelled."""

    def __init__(self) -> None:
        self.running = 0
        self.cancelled = 0
        self.parts = 0

    async def work(self, seconds: float) -> None:
        self.running += 1
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1

    def app(self) -> Starlette:
        async def chat(request: Request) -> Response:
            body = await request.json()
            if body.get("stream"):
                return StreamingResponse(self.stream(body), media_type="text/event-stream")
            answer = asyncio.create_task(self.work(body["seconds"]))
            gone = asyncio.create_task(_disconnect(request))
            done, pending = await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
            for task in pending:
                task.cancel()
            return JSONResponse({"done": answer in done})

        return Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"])])

    async def stream(self, body: dict[str, Any]) -> AsyncIterator[bytes]:
        self.running += 1
        try:
            for _ in range(body["parts"]):
                await asyncio.sleep(body["seconds"])
                self.parts += 1
                yield PART
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


@asynccontextmanager
async def server(engine: Engine, **args: Any) -> AsyncIterator[tuple[Gate, int]]:
    gate = Gate(AdmissionArgs(**args), names=("m",))
    await gate.start()
    app = AdmissionMiddleware(engine.app(), gate)  # type: ignore[arg-type]
    # Client and server share one loop: on a busy machine 5 s pass between two of their turns, and
    # the server closes a connection that the client is about to use again.
    keep_alive = {"timeout_keep_alive": 60}
    config = uvicorn.Config(app, lifespan="off", log_level="critical", **keep_alive)  # type: ignore[arg-type]
    running = uvicorn.Server(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        task = asyncio.create_task(running.serve(sockets=[listener]))
        while not running.started:
            await asyncio.sleep(0.01)
        try:
            yield gate, listener.getsockname()[1]
        finally:
            running.should_exit = running.force_exit = True
            await task
            await gate.stop()


def request_of(body: dict[str, Any], length: int | None = None) -> bytes:
    data = json.dumps(body).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        f"content-length: {len(data) if length is None else length}\r\n\r\n"
    )
    return head.encode() + data


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(coroutine, 60))


def test_a_body_that_trickles_is_408_and_holds_nothing() -> None:
    async def scenario() -> None:
        engine = Engine()
        async with server(engine, body_timeout_s=0.3) as (gate, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request_of({"stream": False}, length=10_000))
            await until(lambda: gate.bodies.held_bytes > 0)
            answer = await asyncio.wait_for(reader.read(), 2)
            assert answer.startswith(b"HTTP/1.1 408")
            assert b'"code": "body_timeout"' in answer
            assert gate.bodies.held_bytes == 0
            writer.close()

    run(scenario())


def test_a_client_that_leaves_while_it_sends_holds_nothing() -> None:
    async def scenario() -> None:
        async with server(Engine()) as (gate, port):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request_of({"stream": False}, length=10_000))
            await until(lambda: gate.bodies.held_bytes > 0)
            writer.close()
            await until(lambda: gate.bodies.held_bytes == 0)
            assert gate.outcomes == {"client_gone": 1}

    run(scenario())


@pytest.mark.parametrize(
    ("stream", "seconds"),
    [pytest.param(True, 0.05, id="within a stream"), (True, 60), (False, 60)],
)
def test_a_client_that_leaves_frees_the_engine_at_once(stream: bool, seconds: float) -> None:
    async def scenario() -> None:
        engine = Engine()
        async with server(engine) as (gate, port):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request_of({"stream": stream, "parts": 10_000, "seconds": seconds}))
            await until(lambda: engine.running == 1)
            assert gate.status()["in_flight"] == 1
            writer.close()
            await until(lambda: engine.running == 0, 1.0)
            assert engine.cancelled == 1
            await until(lambda: gate.status()["in_flight"] == 0, 1.0)
            assert gate.outcomes == {"client_gone": 1}

    run(scenario())


def test_a_client_that_does_not_read_is_cut_and_a_slow_one_is_not() -> None:
    async def scenario() -> None:
        engine = Engine()
        async with server(engine, stream_stall_s=1.5) as (gate, port):
            body = {"stream": True, "parts": 100_000, "seconds": 0}
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
            writer.write(request_of(body))
            await until(lambda: engine.parts > 100)
            await until(lambda: engine.running == 0, 10.0)
            await until(lambda: gate.outcomes["client_stalled"] == 1)
            assert engine.cancelled == 1
            assert gate.status()["in_flight"] == 0
            writer.close()

            engine.parts = 0
            body = {"stream": True, "parts": 6, "seconds": 0.6}  # quiet, but read
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request_of(body))
            answer = await reader.readuntil(b"0\r\n\r\n")
            assert answer.count(PART) == 6
            writer.close()

    run(scenario())


def test_refusals_leave_the_connection_in_use_and_come_fast() -> None:
    async def scenario() -> None:
        async with (
            server(Engine(), max_body_bytes=1000) as (_, port),
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as session,
        ):
            seconds: list[float] = []
            for content, status in [
                (b"{", 400),
                (b"x" * 200_000, 413),
                (b"\x00" * 500, 400),
                (b"[" * 900, 400),
                (b'{"seconds": 0}', 200),
            ] * 5:
                answer = await session.post("/v1/chat/completions", content=content)
                assert answer.status_code == status
                seconds.append(answer.elapsed.total_seconds())
                assert status == 200 or set(answer.json()) == {"error"}
            # The median: a busy machine delays some of anybody's answers.
            assert median(seconds) < 0.1

    run(scenario())


def test_128_streams_at_once_are_all_served() -> None:
    async def scenario() -> None:
        engine = Engine()
        limits = LimitArgs(concurrency=128, requests_per_minute=1000, tokens_per_minute=10**6)
        async with server(engine, anonymous_limits=limits) as (gate, port):
            bounds = httpx.Limits(max_connections=128)
            async with httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{port}", limits=bounds, timeout=30
            ) as session:
                body = {"stream": True, "parts": 8, "seconds": 0.01}
                answers = await asyncio.gather(
                    *(session.post("/v1/chat/completions", json=body) for _ in range(256))
                )
            assert {answer.status_code for answer in answers} == {200}
            assert {answer.text.count("data: ") for answer in answers} == {8}
            assert gate.status()["in_flight"] == 0

    run(scenario())
