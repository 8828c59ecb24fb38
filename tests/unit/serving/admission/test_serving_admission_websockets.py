"""WebSockets hold their key's limits and the instance's."""

import asyncio
from typing import Any

import pytest
from middleware_harness import gate_of, key

from rayserve_par.serving.admission.args import ConcurrencyArgs, LimitArgs
from rayserve_par.serving.admission.middleware import AdmissionMiddleware


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
