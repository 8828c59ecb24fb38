"""Bodies: their form, their size, and what all of them together may hold."""

import asyncio
import json
from typing import Any

import pytest
from middleware_harness import CHAT, Application, error_of, gate_of, served


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
