"""The parts `product-*`: started as `rayserve-par serve` starts it, beside a bare server.

The bare server starts twice: the first start compiles what the second and ours find in vLLM's
cache. Each server has the GPUs to itself. Who uses which GPU is asked of the driver and of Ray.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

from benchmarks.front.servers import Server
from benchmarks.gpu.cases import ServedCase
from benchmarks.gpu.machine import Machine
from benchmarks.gpu.served import ask_chat, bare, engine_processes, ours
from rayserve_par.serving.rank_table import read_instances, read_ranks

_ENGINE = {"load_format": "dummy", "max_model_len": 4096}
# In float32 a layout that adds in another order still picks the same tokens.
_TINY_ENGINE = {"dtype": "float32", "max_model_len": 2048}


def product(case: ServedCase, machine: Machine) -> dict[str, Any]:
    """Start both servers one after another, and look at ours from all sides."""
    console = Console(highlight=False)
    model = "tiny-moe" if case.experts else "qwen3-0.6b-shape"
    engine = _TINY_ENGINE if case.experts or machine.is_logical else _ENGINE
    if machine.is_logical and not case.experts:
        model = "tiny-llama"
    load = case.load(machine, model, engine)
    load.prepare()
    # The first import would otherwise be read from the disk by whoever starts first.
    subprocess.run([sys.executable, "-c", "import vllm"], check=True, capture_output=True)
    name = load.spec.served_model_name
    with tempfile.TemporaryDirectory(prefix="bench-gpu-") as folder:
        starts = []
        for _ in ("compiles", "finds it compiled"):
            with bare(console, load, Path(folder)) as server:
                starts.append(server.start_seconds)
                bare_chat = ask_chat(server.url, name)
    began = time.monotonic()
    with ours(console, case, load) as server:
        whole_seconds = time.monotonic() - began
        chat = ask_chat(server.url, name)
        return {
            "model": model,
            "engine": dict(load.engine),
            "bare_start_seconds": starts,
            "replica_start_seconds": server.start_seconds,
            "until_the_front_answers_seconds": whole_seconds,
            "chat": chat,
            "bare_chat": bare_chat,
            "ranks": rank_places(),
            "engines": [_visible(process) for process in engine_processes(server)],
            "gpu_processes": [] if machine.is_logical else gpu_processes(server),
        }


def rank_places() -> list[dict[str, Any]]:
    """Every rank of every instance as Ray's tables have it: instance, rank, bundle, GPU."""
    return [
        {
            "instance": number,
            "dp_rank": rank.dp_rank,
            "rank": rank.rank,
            "bundle": rank.bundle,
            "gpu": rank.gpu,
        }
        for number, instance in enumerate(read_instances())
        for rank in read_ranks(instance.group_id)
    ]


def _visible(process: psutil.Process) -> dict[str, Any]:
    """What an engine process was told of GPUs when it was started."""
    return {
        "process": process.name(),
        "cuda_visible_devices": process.environ().get("CUDA_VISIBLE_DEVICES"),
    }


def gpu_processes(server: Server) -> list[dict[str, Any]]:
    """The processes that the driver sees on each GPU, and whether they are the server's."""
    query = ["--query-compute-apps=gpu_uuid,pid,used_memory", "--format=csv,noheader,nounits"]
    done = subprocess.run(["nvidia-smi", *query], capture_output=True, text=True, check=True)
    pids = {process.pid for process in server.processes()}
    rows = [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines()]
    gpus = {uuid: number for number, uuid in enumerate(sorted({row[0] for row in rows}))}
    return [
        {
            "gpu": gpus[uuid],
            "used_mib": int(mib) if mib.isdigit() else None,
            "is_the_servers": int(pid) in pids,
        }
        for uuid, pid, mib in rows
    ]
