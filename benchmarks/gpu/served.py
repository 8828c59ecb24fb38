"""What the parts that serve have in common: our server, the bare one, and a question to them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
from rich.console import Console

from benchmarks.front.servers import Server, bare_server, our_server
from benchmarks.front.workloads import Workload
from benchmarks.gpu.cases import ServedCase

_ANSWER_SECONDS = 60.0
_CHAT_TOKENS = 16


@contextmanager
def ours(console: Console, case: ServedCase, load: Workload) -> Iterator[Server]:
    """Our server: a local cluster of one node, the case's instances behind HAProxy."""
    with our_server(console, case.args(load), load.hardware) as server:
        yield server


@contextmanager
def bare(console: Console, load: Workload, folder: Path) -> Iterator[Server]:
    """vLLM's own server of one rank with the engine arguments of our replica."""
    with bare_server(console, load, folder / "bare.log") as server:
        yield server


def ask_chat(url: str, model: str) -> dict[str, Any]:
    """One answered chat: its text and usage.

    Raises:
        httpx.HTTPError: it was not answered, or not with 200.
    """
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "max_tokens": _CHAT_TOKENS,
        "temperature": 0,
    }
    answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=_ANSWER_SECONDS)
    answer.raise_for_status()
    said = answer.json()
    return {"text": said["choices"][0]["message"]["content"], "usage": said["usage"]}


def engine_processes(server: Server) -> list[psutil.Process]:
    """The engine processes among a server's, by process id."""
    found = [one for one in server.processes() if _is_engine(one)]
    return sorted(found, key=lambda process: process.pid)


def _is_engine(process: psutil.Process) -> bool:
    """A child of the replica's, or the actor of a DP rank, which is its engine."""
    try:
        line = " ".join(process.cmdline())
        return "EngineCore" in line or "DpRankActor" in line
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return False
