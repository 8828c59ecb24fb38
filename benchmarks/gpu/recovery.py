"""The parts `recovery-*`: an engine is killed with SIGKILL; when is a chat answered again?

Meanwhile memory in use on the GPUs is sampled: what the dead engine held must be free before the
next one takes any, or its start would fail for lack of memory.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

import httpx
from rich.console import Console

from benchmarks.front.servers import Server
from benchmarks.gpu.cases import ServedCase
from benchmarks.gpu.gpu_memory import Sample, release, sampled, used_mib
from benchmarks.gpu.machine import Machine
from benchmarks.gpu.served import ask_chat, engine_processes, ours
from rayserve_par.cli.stages import stage

_ENGINE = {"load_format": "dummy", "max_model_len": 4096}
_LIMIT_SECONDS = 300.0
_POLL_SECONDS = 0.1
# Enough samples of an engine at work before it is killed.
_STEADY_SECONDS = 1.0


def recovery(case: ServedCase, machine: Machine) -> dict[str, Any]:
    """Kill one engine, and wait until every instance serves again."""
    console = Console(highlight=False)
    if case.experts or machine.is_logical:
        load = case.load(machine, "tiny-moe" if case.experts else "tiny-llama", {})
    else:
        load = case.load(machine, "qwen3-0.6b-shape", _ENGINE)
    load.prepare()
    if machine.is_logical:
        with ours(console, case, load) as server:
            found, _ = _kill(console, server, load.spec.served_model_name)
        return {"model": load.model, **found}
    idle_mib = used_mib()
    with ours(console, case, load) as server, sampled() as samples:
        time.sleep(_STEADY_SECONDS)
        found, killed_at = _kill(console, server, load.spec.served_model_name)
    return {"model": load.model, **found, **memory(samples, idle_mib, killed_at)}


def memory(samples: list[Sample], idle_mib: int, killed_at: float) -> dict[str, Any]:
    """What the samples tell, and themselves as seconds since the kill."""
    told = release(samples, idle_mib, killed_at)
    return {
        "memory": {**asdict(told), "freed_before_next": told.freed_before_next},
        "used_mib_by_seconds": [[round(at - killed_at, 2), mib] for at, mib in samples],
    }


def _kill(console: Console, server: Server, model: str) -> tuple[dict[str, Any], float]:
    """What happened, and when (`time.monotonic()`) the engine was killed."""
    before = {process.pid for process in engine_processes(server)}
    victim = engine_processes(server)[0]
    ask_chat(server.url, model)
    killed_at = time.monotonic()
    victim.kill()
    statuses: dict[str, int] = {}
    with stage(console, "Killed an engine; waiting until all serve again"):
        answered = _until_served(server, model, before, statuses, killed_at)
    found = {
        "killed": "the engine process, with SIGKILL",
        "served_again_seconds": answered - killed_at,
        "answers_meanwhile": statuses,
    }
    return found, killed_at


def _until_served(
    server: Server, model: str, before: set[int], statuses: dict[str, int], killed_at: float
) -> float:
    """When a chat was answered with as many engines as before, none of them the killed one.

    Raises:
        RuntimeError: not within the limit.
    """
    while time.monotonic() - killed_at < _LIMIT_SECONDS:
        status = _ask_status(server.url, model)
        statuses[status] = statuses.get(status, 0) + 1
        if status == "200":
            now = {process.pid for process in engine_processes(server)}
            if len(now) == len(before) and now != before:
                return time.monotonic()
        time.sleep(_POLL_SECONDS)
    raise RuntimeError(f"not served again within {_LIMIT_SECONDS:.0f} s: {statuses}")


def _ask_status(url: str, model: str) -> str:
    """The status of a chat, or the name of the error that it ended in."""
    try:
        ask_chat(url, model)
    except httpx.HTTPStatusError as error:
        return str(error.response.status_code)
    except httpx.HTTPError as error:
        return type(error).__name__
    return "200"
