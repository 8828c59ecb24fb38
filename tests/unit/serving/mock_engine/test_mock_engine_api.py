"""The OpenAI side of the mock engine, through its ASGI app, in real time with 1 ms steps."""

from __future__ import annotations

import asyncio
import contextvars
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import httpx
import pytest
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from rayserve_par.serving.admission.concurrency import EngineLoad
from rayserve_par.serving.admission.context import request_key_name, request_priority
from rayserve_par.serving.admission.usage import UsageSink
from rayserve_par.serving.mock_engine.api import MockApi
from rayserve_par.serving.mock_engine.engine import EngineListeners, MockEngine
from rayserve_par.serving.mock_engine.instance import start_mock_instance
from rayserve_par.serving.mock_engine.scheduler import Request
from rayserve_par.serving.mock_engine.standalone import StandaloneApp
from rayserve_par.serving.mock_engine.times import EngineTimes

TIMES = EngineTimes(
    prefill_tokens_per_second=1e6, step_base_seconds=0.001, max_model_len=512, answer_tokens=20
)
CHAT = "/v1/chat/completions"
HELLO = {"model": "mock", "messages": [{"role": "user", "content": "hello there"}]}


def with_client(
    use: Callable[[httpx.AsyncClient, MockApi], Awaitable[Any]], times: EngineTimes = TIMES
) -> Any:
    """Run `use` against a new engine."""

    async def run() -> Any:
        api = MockApi(MockEngine(times), ("mock", "alias"))
        transport = httpx.ASGITransport(StandaloneApp(api))
        async with httpx.AsyncClient(transport=transport, base_url="http://mock") as client:
            return await use(client, api)

    return asyncio.run(run())


def post(path: str, body: Any) -> httpx.Response:
    """The response to one body, which is JSON unless it is bytes."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer: httpx.Response = with_client(lambda client, _: client.post(path, content=content))
    return answer


def events(answer: httpx.Response) -> list[str]:
    """The data of each server-sent event."""
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = answer.text.split("\n\n")
    assert lines.pop() == ""
    assert all(line.startswith("data: ") for line in lines)
    return [line.removeprefix("data: ") for line in lines]


def test_chat_whole_and_streamed_are_the_same() -> None:
    whole = ChatCompletion.model_validate_json(post(CHAT, HELLO).content)
    options = {"stream": True, "stream_options": {"include_usage": True}}
    *data, done = events(post(CHAT, {**HELLO, **options}))
    assert done == "[DONE]"
    chunks = [ChatCompletionChunk.model_validate_json(text) for text in data]
    first, *middle, last, total = chunks
    assert first.choices[0].delta.role == "assistant"
    assert {chunk.choices[0].finish_reason for chunk in middle} == {None}
    assert last.choices[0].finish_reason == whole.choices[0].finish_reason == "stop"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert len(text.split()) == TIMES.answer_tokens
    assert total.choices == []
    assert total.usage is not None
    assert whole.usage is not None
    # <|user|> hell o ther e <|end|> <|assistant|>
    assert total.usage.prompt_tokens == whole.usage.prompt_tokens == 7
    assert total.usage.completion_tokens == whole.usage.completion_tokens == 20


def test_usage_comes_only_when_asked_for() -> None:
    *data, _ = events(post(CHAT, {**HELLO, "stream": True, "max_tokens": 3}))
    assert len(data) <= 4
    assert all('"usage"' not in text for text in data)


@pytest.mark.parametrize(
    ("prompt", "tokens"),
    [("hello there", 4), ([1, 2, 3], 3), (["hello there"], 4), ([[1, 2, 3]], 3)],
)
def test_completions(prompt: Any, tokens: int) -> None:
    body = {"model": "alias", "prompt": prompt, "max_tokens": 5}
    whole = Completion.model_validate_json(post("/v1/completions", body).content)
    assert whole.usage is not None
    assert whole.usage.prompt_tokens == tokens
    assert whole.choices[0].finish_reason == "length"
    *data, _ = events(post("/v1/completions", {**body, "stream": True}))
    text = "".join(json.loads(event)["choices"][0]["text"] for event in data)
    assert text == whole.choices[0].text


@pytest.mark.parametrize(
    ("options", "tokens", "reason"),
    [
        ({}, 20, "stop"),
        ({"max_tokens": 5}, 5, "length"),
        ({"max_completion_tokens": 6, "max_tokens": 5}, 6, "length"),
        ({"max_tokens": 400}, 20, "stop"),
        ({"max_tokens": 400, "ignore_eos": True}, 400, "length"),
        ({"ignore_eos": True}, 505, "length"),  # 512 - 7
    ],
)
def test_how_long_answers_are(options: dict[str, Any], tokens: int, reason: str) -> None:
    answer = ChatCompletion.model_validate_json(post(CHAT, {**HELLO, **options}).content)
    assert answer.usage is not None
    assert (answer.usage.completion_tokens, answer.choices[0].finish_reason) == (tokens, reason)


def messages(content: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}]}


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        (CHAT, b"{", 400, "not JSON"),
        (CHAT, b"\xff\x00", 400, "not JSON"),
        (CHAT, b"[" * 100_000, 400, "not JSON"),
        (CHAT, [], 400, "not a JSON object"),
        (CHAT, {}, 400, "messages"),
        (CHAT, {"messages": [{"content": "x"}]}, 400, "role"),
        (CHAT, messages([{"type": "image_url"}]), 400, "content"),
        (CHAT, messages(5), 400, "content"),
        (CHAT, {**HELLO, "n": 2}, 400, "n is 1"),
        (CHAT, {**HELLO, "n": "x"}, 400, "not an integer"),
        (CHAT, {**HELLO, "max_tokens": 0}, 400, "at least 1"),
        (CHAT, {**HELLO, "max_tokens": 600}, 400, "maximum context length is 512"),
        (CHAT, messages("word " * 600), 400, "maximum context length is 512"),
        (CHAT, {**HELLO, "model": "other"}, 404, "`other` does not exist"),
        ("/v1/completions", {"prompt": ["a", "b"]}, 400, "one text"),
        ("/v1/completions", {"prompt": ""}, 400, "no tokens"),
        ("/v1/completions", {"prompt": [True]}, 400, "one text"),
        ("/v1/models", {}, 405, "Not Allowed"),
        ("/metrics", {}, 404, "Not Found"),
    ],
)
def test_refused(path: str, body: Any, status: int, message: str) -> None:
    answer = post(path, body)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert message in error["message"]
    assert error["code"] == status


def test_text_parts_are_text() -> None:
    parts = [{"type": "text", "text": "hello"}, {"type": "text", "text": "there"}]
    assert post(CHAT, messages(parts)).json()["usage"]["prompt_tokens"] == 7


def test_models_and_health() -> None:
    async def use(client: httpx.AsyncClient, api: MockApi) -> None:
        cards = (await client.get("/v1/models")).json()["data"]
        assert [(card["id"], card["max_model_len"]) for card in cards] == [
            ("mock", 512),
            ("alias", 512),
        ]
        for path in ("/health", "/ping", "/-/healthz"):
            assert (await client.get(path)).status_code == 200
        api.engine.end("broken on purpose")
        assert (await client.get("/health")).status_code == 503
        assert (await client.get("/-/healthz")).status_code == 503
        assert (await client.post(CHAT, json=HELLO)).status_code == 500

    with_client(use)


def test_status_document_follows_the_engine() -> None:
    async def use(client: httpx.AsyncClient, api: MockApi) -> None:
        body = {**HELLO, "messages": [{"role": "user", "content": "a " * 40}]}
        posts = [asyncio.create_task(client.post(CHAT, json=body)) for _ in range(3)]
        while api.engine.scheduler.running < 2:
            await asyncio.sleep(0)
        status = (await client.get("/internal/front")).json()
        assert (status["model"], status["names"]) == ("mock", ["mock", "alias"])
        assert (status["running"], status["waiting"], status["in_flight"]) == (2, 1, 3)
        assert (status["limit"], status["draining"]) == (2, False)
        assert status["kv_usage"] == pytest.approx(api.engine.scheduler.kv_usage, abs=1e-4)
        assert status["kv_usage"] > 0
        await asyncio.gather(*posts)
        after = (await client.get("/internal/front")).json()
        assert (after["running"], after["in_flight"], after["kv_usage"]) == (0, 0, 0)
        # 43 prompt tokens each; the first runs alone for a step, the others find two blocks.
        assert (after["prefix_query_tokens"], after["prefix_hit_tokens"]) == (129, 64)

    slots = EngineTimes(step_base_seconds=0.005, max_num_seqs=2)
    with_client(use, slots)


def test_a_client_that_leaves_frees_the_kv() -> None:
    async def run() -> None:
        api = MockApi(MockEngine(TIMES), ("mock",))
        body = json.dumps({**HELLO, "stream": True, "ignore_eos": True}).encode()
        left = asyncio.Event()
        inbox: list[dict[str, Any]] = [{"type": "http.request", "body": body}]
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            if inbox:
                return inbox.pop()
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)
            if len(sent) == 5:
                left.set()

        scope = {"type": "http", "method": "POST", "path": CHAT}
        await asyncio.wait_for(api(scope, receive, send), 5)
        assert len(sent) < 100
        assert api.engine.scheduler.kv_usage == 0
        assert api.status.in_flight == 0

    asyncio.run(run())


def test_an_engine_that_ends_ends_its_streams_with_an_error() -> None:
    async def use(client: httpx.AsyncClient, api: MockApi) -> list[str]:
        body = {**HELLO, "stream": True, "ignore_eos": True}
        asking = asyncio.create_task(client.post(CHAT, json=body))
        while not api.engine.scheduler.running:
            await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        api.engine.end("broken on purpose")
        return events(await asking)

    *_, error, done = with_client(use)
    assert done == "[DONE]"
    assert "broken on purpose" in json.loads(error)["error"]["message"]


def test_the_instance_has_the_face_of_a_real_one() -> None:
    async def run() -> None:
        steps: list[int] = []
        listeners = EngineListeners(on_tokens=lambda: steps.append(1))
        instance = await start_mock_instance(["mock"], TIMES, listeners)
        assert steps == [1]
        assert 0 < instance.start_seconds < 5
        assert not instance.failed
        # The probe is nobody's prompt to be found again.
        assert (instance.status.prefix_hit_tokens, instance.status.kv_usage) == (0, 0)
        assert instance.engine_load() == EngineLoad(0, 0, 0.0)

        asked = []

        async def check_health() -> None:
            asked.append(1)

        instance.engine.check_health = check_health  # type: ignore[method-assign]
        transport = httpx.ASGITransport(await instance.build_asgi_app())
        async with httpx.AsyncClient(transport=transport, base_url="http://mock") as client:
            assert (await client.get("/health")).status_code == 200
            assert (await client.get("/v1/models")).json()["data"][0]["id"] == "mock"
        assert asked == [1]

        reasons: list[str] = []
        instance.watch(reasons.append)
        instance.engine.end("broken on purpose")
        assert instance.failed
        for _ in range(200):
            if reasons:
                break
            await asyncio.sleep(0.01)
        assert reasons == ["the mock engine ended"]
        instance.shutdown()
        instance.shutdown()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("path", "body", "tokens"),
    [
        (CHAT, HELLO, 7 + 20),
        ("/v1/completions", {"prompt": "hello there", "max_tokens": 5}, 4 + 5),
    ],
)
def test_what_admission_set_reaches_the_engine_and_its_usage_comes_back(
    path: str, body: dict[str, Any], tokens: int
) -> None:
    sink, charged = UsageSink(), []
    sink.register("the-request", charged.append, 10)
    orders: list[int] = []

    class Noting(MockEngine):
        def generate(self, request: Request) -> AsyncGenerator[tuple[int, int], None]:
            orders.append(request.priority)
            return super().generate(request)

    async def run() -> None:
        engine = Noting(TIMES, EngineListeners(on_finished=sink.on_finished))
        request_key_name.set("key")
        request_priority.set(3)
        transport = httpx.ASGITransport(MockApi(engine, ("mock",)))
        async with httpx.AsyncClient(transport=transport, base_url="http://mock") as client:
            for priority in (-5, 4):
                headers = {"x-request-id": "the-request"}
                answer = await client.post(
                    path, json={**body, "priority": priority}, headers=headers
                )
                assert answer.json()["id"].endswith("cmpl-the-request")

    contextvars.copy_context().run(asyncio.run, run())
    # A caller may put its own request behind its others, and not before them.
    assert orders == [3, 7]
    assert charged == [tokens, tokens]


def test_lateness_does_not_add_up() -> None:
    """Steps of 1 ms on a loop that is blocked for 20 ms at a time keep the set pace."""

    async def use(client: httpx.AsyncClient, _: MockApi) -> float:
        loop = asyncio.get_running_loop()
        start = loop.time()
        asking = asyncio.create_task(client.post(CHAT, json={**HELLO, "ignore_eos": True}))
        while not asking.done():
            end = loop.time() + 0.02
            while loop.time() < end:
                pass
            await asyncio.sleep(0.001)
        return loop.time() - start

    # 505 steps of 1.3 ms are 0.66 s; were a step to start when the last was noticed, 505 x 20 ms.
    assert 0.6 < with_client(use) < 3
