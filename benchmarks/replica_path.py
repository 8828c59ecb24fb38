"""What a request costs our replica's process and vLLM's own, in CPU microseconds.

Run: python -m benchmarks.replica_path [--vllm] [--requests 2000] [--tokens 1] [--rounds 3]

An engine answers 16 clients, on connections that stay open; CPU time is that of the serving
process alone, without its engine's. Rows, in turns:

- bare: the same app under uvicorn; with `--vllm`, vLLM's own server
- ours: our replica, asked on its own port, past HAProxy, with what HAProxy adds

The engine is the mock one, whose steps take next to nothing; with `--vllm` it is vLLM's with
tiny-llama. Medians over the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.front.past_haproxy import UNWATCHED, listening_port, replica_process
from benchmarks.front.servers import bare_server, our_server
from benchmarks.front.workloads import WORKLOADS
from rayserve_par.cli.local.ports import HOST, free_ports
from rayserve_par.serving.mock_engine.times import EngineTimes

_STREAMS = 16
_MODEL = "tiny-llama"
_TIMES = {
    "step_base_seconds": 1e-4,
    "prefill_tokens_per_second": 1e7,
    "max_num_seqs": 128,
    "max_num_batched_tokens": 8192,
}
_MOCK_ARGS = {"model": _MODEL, "layout": {"tp": 1}, "num_replicas": 1, "mock_engine": _TIMES}
_START_SECONDS = 30.0


def request_text(tokens: int) -> bytes:
    """One streamed chat request of 1 kB for `tokens` tokens."""
    words = "time year people way day man thing woman life child " * 17
    chat = {"model": _MODEL, "messages": [{"role": "user", "content": words}]}
    asked = {**chat, "stream": True, "max_tokens": tokens, "ignore_eos": True}
    body = json.dumps(asked).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {HOST}\r\n"
    kind = f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
    more = "".join(f"{name}: {value}\r\n" for name, value in UNWATCHED.items())
    return f"{head}{more}{kind}\r\n".encode() + body


async def _stream(port: int, text: bytes, requests: int) -> None:
    reader, writer = await asyncio.open_connection(HOST, port)
    for _ in range(requests):
        writer.write(text)
        answer = await reader.readuntil(b"0\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"not a 200: {answer[:500]!r}")
    writer.close()


async def _load(port: int, text: bytes, requests: int) -> None:
    await asyncio.gather(*(_stream(port, text, requests // _STREAMS) for _ in range(_STREAMS)))


def microseconds(process: psutil.Process, port: int, text: bytes, requests: int) -> float:
    """CPU microseconds of `process` for each of `requests` requests to `port`."""
    asyncio.run(_load(port, text, _STREAMS * 4))
    before = process.cpu_times()
    asyncio.run(_load(port, text, requests))
    after = process.cpu_times()
    used = after.user + after.system - before.user - before.system
    return 1e6 * used / (requests // _STREAMS * _STREAMS)


@contextmanager
def alone() -> Iterator[tuple[psutil.Process, int]]:
    """The mock engine's app under uvicorn in a process of its own."""
    port = free_ports(1)[0]
    command = [sys.executable, "-m", "benchmarks.replica_path", "--serve", str(port)]
    process = subprocess.Popen(command)
    try:
        end = time.monotonic() + _START_SECONDS
        while socket.socket().connect_ex((HOST, port)):
            if time.monotonic() > end or process.poll() is not None:
                raise RuntimeError("The app alone did not start.")
            time.sleep(0.1)
        yield psutil.Process(process.pid), port
    finally:
        process.terminate()
        process.wait()


def _serve(port: int) -> None:
    import uvicorn
    import uvloop

    from rayserve_par.serving.mock_engine.instance import start_mock_instance

    async def main() -> None:
        instance = await start_mock_instance((_MODEL,), EngineTimes.from_mapping(_TIMES))
        app = await instance.build_asgi_app()
        config = uvicorn.Config(app, host=HOST, port=port, log_level="error", access_log=False)
        await uvicorn.Server(config).serve()

    uvloop.run(main())


@contextmanager
def bare_vllm(console: Console) -> Iterator[tuple[psutil.Process, int]]:
    """vLLM's own server: the process that serves HTTP, not its engine's."""
    with TemporaryDirectory() as folder:
        log = Path(folder, "bare.log")
        with bare_server(console, WORKLOADS[_MODEL], log) as server:
            yield server.processes()[0], urlsplit(server.url).port or 80


def measure(
    console: Console, *, vllm: bool, requests: int, tokens: int, rounds: int
) -> dict[str, list[float]]:
    """CPU microseconds a request, by row and round."""
    found: dict[str, list[float]] = {"bare": [], "ours": []}
    args = WORKLOADS[_MODEL].args if vllm else _MOCK_ARGS
    text = request_text(tokens)
    with (
        bare_vllm(console) if vllm else alone() as (process, port),
        our_server(console, args, "1x1xlogical-cpu") as server,
    ):
        replica = replica_process(server)
        replica_port = listening_port(replica)
        for number in range(rounds):
            console.print(f"... Round {number + 1} of {rounds}", highlight=False)
            found["bare"].append(microseconds(process, port, text, requests))
            found["ours"].append(microseconds(replica, replica_port, text, requests))
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--vllm", action="store_true", help="vLLM's engine and server, tiny-llama")
    parser.add_argument("--requests", type=int, default=2000, help="in each cell")
    parser.add_argument("--tokens", type=int, default=1, help="of each answer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve is not None:
        _serve(given.serve)
        return
    console = Console(highlight=False)
    found = measure(
        console,
        vllm=given.vllm,
        requests=given.requests,
        tokens=given.tokens,
        rounds=given.rounds,
    )
    table = Table("row", "CPU us per request", "more than bare", title=f"{os.cpu_count()} cores")
    base = median(found["bare"])
    for name, values in found.items():
        table.add_row(name, f"{median(values):.0f}", f"{median(values) - base:.0f}")
    console.print(table)


if __name__ == "__main__":
    main()
