"""A replica as HAProxy sees one: health, status document, model list, and answers made to order."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rayserve_par.cli.local.ports import free_ports

STREAM_CHUNKS = 5
STREAM_PAUSE_SECONDS = 0.1


@dataclass(frozen=True)
class Request:
    """What a replica received."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class Loop:
    """One event loop in a thread, for all replicas and Ray's HAProxyApi."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def run(self, coroutine: Any, timeout: float = 30) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()


@dataclass
class Replica:
    """Answers `mode`: ok, shed (503), close or reset (no byte), stream, hold (till `released`).

    A `frozen` one is a stopped process: its kernel takes connections and bytes, and nothing comes.
    """

    name: str
    port: int
    prefix: str = ""
    names: tuple[str, ...] = ("model",)
    mode: str = "ok"
    health: int = 200
    key: str | None = None
    host: str = "127.0.0.1"
    elsewhere: bool = False  # runs in another process
    frozen: bool = False
    silent: bool = False  # serves, but does not say what it is
    load: dict[str, Any] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    polls: list[float] = field(default_factory=list)
    in_flight: int = 0
    released: asyncio.Event = field(default_factory=asyncio.Event)
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def start(self) -> None:
        if self.elsewhere:
            return
        self._server = await asyncio.start_server(self._serve, self.host, self.port)

    async def kill(self) -> None:
        """As a dying process: no listener, every connection gone."""
        await self.stop_listening()
        for writer in list(self._writers):
            writer.transport.abort()

    async def stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    @property
    def status(self) -> dict[str, Any]:
        return {
            "model": self.names[0],
            "names": list(self.names),
            "running": self.in_flight,
            "waiting": 0,
            "kv_usage": 0.0,
            "in_flight": self.in_flight,
            "limit": 1000,
            "draining": False,
            **self.load,
        }

    @property
    def models(self) -> dict[str, Any]:
        # An id inside, a brace and a quote in a string: the merge must not stumble.
        return {
            "object": "list",
            "data": [
                {
                    "id": name,
                    "object": "model",
                    "max_model_len": 8192,
                    "root": 'a "}]{" b',
                    "permission": [{"id": "modelperm-1", "organization": "*", "group": None}],
                }
                for name in self.names
            ],
        }

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while await self._one(await _read(reader), writer):
                await writer.drain()
        self._writers.discard(writer)
        writer.close()

    async def _one(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        path = request.target.split("?")[0]
        await self._thaw()
        if path == "/-/healthz":
            writer.write(_answer(self.health, b"DRAINING" if self.health != 200 else b"success"))
        elif path == f"{self.prefix}/internal/front":
            self.polls.append(time.monotonic())
            status = 503 if self.silent else 200
            writer.write(_answer(status, json.dumps(self.status).encode()))
        else:
            self.requests.append(request)
            if self.key and request.headers.get("authorization") != f"Bearer {self.key}":
                writer.write(_answer(401, b'{"error":{"message":"key"}}'))
            elif path == f"{self.prefix}/v1/models":
                writer.write(_answer(200, json.dumps(self.models).encode()))
            else:
                self.in_flight += 1
                try:
                    return await self._by_mode(request, writer)
                finally:
                    self.in_flight -= 1
        return True

    async def _thaw(self) -> None:
        while self.frozen:
            await asyncio.sleep(0.05)

    async def _by_mode(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        if self.mode == "close":
            return False
        if self.mode == "reset":
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            return False
        if self.mode == "shed":
            writer.write(_answer(503, b'{"error":{"message":"shed"}}', "x-rayserve-par-shed: 1"))
            return True
        if self.mode == "hold":
            await self.released.wait()
        if self.mode == "stream":
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
                b"transfer-encoding: chunked\r\n\r\n"
            )
            for number in range(STREAM_CHUNKS):
                chunk = f"data: {number}\n\n".encode()
                writer.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
                await writer.drain()
                await asyncio.sleep(STREAM_PAUSE_SECONDS)
                await self._thaw()
            writer.write(b"0\r\n\r\n")
            return True
        told = {"replica": self.name, "target": request.target, "bytes": len(request.body)}
        writer.write(_answer(200, json.dumps(told).encode()))
        return True


async def _read(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    line, *lines = head.strip().split("\r\n")
    method, target, _ = line.split(" ")
    headers = {name.lower(): text for name, text in (one.split(": ", 1) for one in lines if one)}
    body = b""
    if "content-length" in headers:
        body = await reader.readexactly(int(headers["content-length"]))
    elif headers.get("transfer-encoding") == "chunked":
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readexactly(2)
    return Request(method, target, headers, body)


def _answer(status: int, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"content-length: {len(body)}", *headers]
    return ("\r\n".join([*lines, "content-type: application/json"]) + "\r\n\r\n").encode() + body


def free_port() -> int:
    return free_ports(1)[0]


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)
