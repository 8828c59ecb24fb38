"""What admission costs: CPU microseconds that each request takes more with it than without.

Run: python -m benchmarks.admission [--requests 3000] [--keys 10]

The application is a trivial ASGI app that reads a chat body of 1 kB and streams 32 parts; no
socket, so that nothing else is measured. Each row adds one feature to the row above it; the CPU
time is the process's, the rows take turns over the rounds, and each number is the least of the
rounds, since all noise adds. Parts: the price of one more streamed part, from an app with 512.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import time
from typing import Any

from rayserve_par.serving.admission.args import AdmissionArgs, LimitArgs
from rayserve_par.serving.admission.gate import Gate
from rayserve_par.serving.admission.key_source import KeySource
from rayserve_par.serving.admission.keys import KeyEntry, KeySet, hash_of, new_secret
from rayserve_par.serving.admission.middleware import AdmissionMiddleware
from rayserve_par.serving.admission.refusal import App, Message, Receive, Scope, Send

_PARTS = 32
_MANY_PARTS = 512
_ROUNDS = 7
_EVENT = b'data: {"id":"chatcmpl-1","choices":[{"index":0,"delta":{"content":" word"}}]}\n\n'
_NO_LIMIT = 10**9


def _body() -> bytes:
    text = "time year people way day man thing woman life child " * 17
    chat = {"model": "m", "messages": [{"role": "user", "content": text}], "stream": True}
    return json.dumps(chat).encode()


def _app(parts: int) -> App:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        del scope
        await receive()
        head = [(b"content-type", b"text/event-stream; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        for _ in range(parts):
            await send({"type": "http.response.body", "body": _EVENT, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    return app


def _scope(secret: str, body: bytes) -> dict[str, Any]:
    return {
        "type": "http",
        "method": "POST",
        "path": "/v1/chat/completions",
        "root_path": "",
        "client": ("127.0.0.1", 1),
        "headers": [
            (b"host", b"localhost:8000"),
            (b"accept", b"application/json"),
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"user-agent", b"bench"),
            (b"authorization", b"Bearer " + secret.encode()),
            (b"x-request-id", b"0f3c2d9a-0000-4000-8000-000000000000"),
        ],
    }


async def _cpu_us(app: App, secret: str, requests: int) -> float:
    body = _body()

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        del message

    async def one() -> None:
        await app(_scope(secret, body), receive, send)

    gc.collect()
    begin = time.process_time()
    for _ in range(requests):
        await asyncio.create_task(one())  # servers make a task for each request
    return (time.process_time() - begin) / requests * 1e6


def _entries(count: int, limits: LimitArgs) -> tuple[str, KeySource]:
    secret = new_secret()
    entries = [KeyEntry(name="bench", sha256=hash_of(secret), limits=limits)]
    others = (KeyEntry(name=f"k{i}", sha256=hash_of(new_secret())) for i in range(count - 1))
    return secret, KeySource(KeySet([*entries, *others]))


async def measure(requests: int, keys: int) -> list[tuple[str, float]]:
    """Rows of a name and the CPU us of a request."""
    limits = LimitArgs(
        requests_per_minute=_NO_LIMIT, tokens_per_minute=_NO_LIMIT, concurrency=_NO_LIMIT
    )
    secret, plain = _entries(keys, LimitArgs())
    limited_secret, limited = _entries(keys, limits)
    gates = {
        "checks, concurrency limit, response": Gate(AdmissionArgs(), names=("m",)),
        f"+ keys ({keys} in the file)": Gate(AdmissionArgs(), names=("m",), keys=plain),
        "+ three limits of the key": Gate(AdmissionArgs(), names=("m",), keys=limited),
    }
    rows: dict[str, tuple[App, str]] = {"no admission": (_app(_PARTS), "")}
    for name, gate in gates.items():
        await gate.start()
        rows[name] = (
            AdmissionMiddleware(_app(_PARTS), gate),
            limited_secret if "limits" in name else secret,
        )
    rows["no admission, 512 parts"] = (_app(_MANY_PARTS), "")
    rows["all, 512 parts"] = (
        AdmissionMiddleware(_app(_MANY_PARTS), list(gates.values())[-1]),
        limited_secret,
    )
    least = dict.fromkeys(rows, float("inf"))
    for _ in range(_ROUNDS):
        for name, (app, row_secret) in rows.items():
            count = requests if "512" not in name else max(1, requests // 8)
            least[name] = min(least[name], await _cpu_us(app, row_secret, count))
    for gate in gates.values():
        await gate.stop()
    return list(least.items())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--keys", type=int, default=10)
    options = parser.parse_args()
    rows = asyncio.run(measure(options.requests, options.keys))
    base, previous = rows[0][1], rows[0][1]
    print(f"{'':40}{'us/request':>12}{'this step':>12}{'in all':>12}")
    for name, cpu_us in rows[:4]:
        step, total = cpu_us - previous, cpu_us - base
        print(f"{name:40}{cpu_us:12.1f}{step:12.1f}{total:12.1f}")
        previous = cpu_us
    more = (rows[5][1] - rows[3][1]) - (rows[4][1] - rows[0][1])
    print(f"{'each further streamed part':40}{more / (_MANY_PARTS - _PARTS):24.3f}")


if __name__ == "__main__":
    main()
