"""The load against servers that answer, refuse, break off and stay silent, over real HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web

from benchmarks.reliability.exchange import (
    Ask,
    ask_and_leave,
    ask_stream,
    ask_whole,
    ask_wrongly,
    client_session,
)
from benchmarks.reliability.load import Load, Shape
from benchmarks.reliability.outcome import Kind, Request

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
ERROR = {"error": {"message": "no", "type": "unavailable", "param": None, "code": 503}}
TOKENS = 5


def event(document: object) -> bytes:
    return f"data: {json.dumps(document)}\n\n".encode()


def chunk(text: str) -> bytes:
    return event({"choices": [{"index": 0, "delta": {"content": text}}]})


ROLE = event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
USAGE = event({"choices": [], "usage": {"completion_tokens": TOKENS}})
DONE = b"data: [DONE]\n\n"


async def stream(request: web.Request, *parts: bytes) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for part in parts:
        await response.write(part)
    return response


async def complete(request: web.Request) -> web.StreamResponse:
    return await stream(request, ROLE, *[chunk("a")] * TOKENS, USAGE, DONE)


async def too_short(request: web.Request) -> web.StreamResponse:
    return await stream(request, ROLE, chunk("a"), event({"usage": {"completion_tokens": 1}}), DONE)


async def without_done(request: web.Request) -> web.StreamResponse:
    return await stream(request, ROLE, chunk("a"))


async def engine_dies(request: web.Request) -> web.StreamResponse:
    return await stream(request, ROLE, chunk("a"), event(ERROR), DONE)


async def aborted(request: web.Request) -> web.StreamResponse:
    response = await stream(request, ROLE, chunk("a"))
    assert request.transport is not None
    request.transport.abort()
    return response


async def no_byte(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def silent(_request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(30)
    return web.Response()


async def silent_in_the_middle(request: web.Request) -> web.StreamResponse:
    await stream(request, ROLE, chunk("a"))
    await asyncio.sleep(30)
    return web.Response()


async def sheds(_request: web.Request) -> web.StreamResponse:
    return web.json_response(ERROR, status=503, headers={"Retry-After": "2"})


async def plain_503(_request: web.Request) -> web.StreamResponse:
    return web.Response(status=503, text="Request dropped due to backpressure")


async def whole(_request: web.Request) -> web.StreamResponse:
    return web.json_response({"choices": [{}], "usage": {"completion_tokens": TOKENS}})


async def refuses_text(request: web.Request) -> web.StreamResponse:
    wrong = isinstance((await request.json())["messages"], str)
    return web.json_response(ERROR, status=400) if wrong else await complete(request)


def seen_of(answer: Answer, ask: Ask) -> Request | None:
    async def talk() -> Request | None:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            async with client_session(silence_seconds=0.5) as session:
                return await ask(session, url, "model", "text", TOKENS)
        finally:
            await runner.cleanup()

    return asyncio.run(talk())


@pytest.mark.parametrize(
    ("answer", "ask", "kind", "reason"),
    [
        (complete, ask_stream, Kind.ACCEPTED, "complete"),
        (whole, ask_whole, Kind.ACCEPTED, "complete"),
        (refuses_text, ask_wrongly, Kind.REFUSED, "HTTP 400"),
        (sheds, ask_stream, Kind.REFUSED, "HTTP 503"),
        (sheds, ask_whole, Kind.REFUSED, "HTTP 503"),
        (sheds, ask_and_leave, Kind.REFUSED, "HTTP 503"),
        (plain_503, ask_stream, Kind.FAILED, "HTTP 503 without OpenAI's error body"),
        (too_short, ask_stream, Kind.FAILED, "1 tokens instead of 5"),
        (without_done, ask_stream, Kind.CUT, "ended without [DONE]"),
        (without_done, ask_and_leave, Kind.CUT, "ended without [DONE]"),
        (engine_dies, ask_stream, Kind.CUT, "error event"),
        (aborted, ask_stream, Kind.CUT, "connection aborted"),
        (silent_in_the_middle, ask_stream, Kind.LOST, "silent after the answer began"),
        (silent, ask_stream, Kind.LOST, "silent"),
        (
            no_byte,
            ask_stream,
            Kind.FAILED,
            "no byte of an answer: the connection was closed or reset",
        ),
    ],
)
def test_what_the_client_sees(answer: Answer, ask: Ask, kind: Kind, reason: str) -> None:
    request = seen_of(answer, ask)
    assert request is not None
    assert (request.kind, request.reason) == (kind, reason)
    if kind is Kind.ACCEPTED:
        assert request.first_byte is not None
        assert request.first_token is not None
        assert request.start <= request.first_byte <= request.first_token <= request.end


def test_a_client_that_leaves_is_nobodys_failure() -> None:
    assert seen_of(complete, ask_and_leave) is None


def test_where_nobody_listens_requests_fail_and_the_load_goes_on() -> None:
    # Port 9 of the loopback address has no server: connections are refused at once.
    with Load("http://127.0.0.1:9", "model", clients=2, shape=Shape(pause_seconds=0.01)) as load:
        while len(load.done) < 6:
            load.raise_error()
        requests = load.finish()
    assert {request.reason for request in requests} == {
        "no byte of an answer: no connection could be made"
    }


def test_the_load_waits_for_what_is_accepted() -> None:
    with (
        Load("http://127.0.0.1:9", "model", clients=1, shape=Shape(pause_seconds=0.01)) as load,
        pytest.raises(TimeoutError, match="1 requests were not accepted"),
    ):
        load.wait_for(accepted=1, seconds=0.2)
