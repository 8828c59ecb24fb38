"""The servers that are compared: each a context manager that yields where it answers.

All serve the same model with the same engine arguments: vLLM's own server, ours (one instance,
TP1, behind Serve's HAProxy), and Ray Serve LLM with its defaults where it is installed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
from rich.console import Console

from benchmarks.front.bare_server import BareServer
from benchmarks.front.workloads import Workload
from rayserve_par.cli.bring_up import bring_up, wait_for_front
from rayserve_par.cli.connect import connect
from rayserve_par.cli.local.cluster import LocalCluster
from rayserve_par.cli.local.ports import HOST, free_ports
from rayserve_par.cli.stages import stage
from rayserve_par.control.config_file import IMPORT_PATH, ConfiguredApp, ServeConfig
from rayserve_par.control.serve_client import ServeClient
from rayserve_par.serving.config import parse_args
from rayserve_par.serving.vllm_bridge.engine_args import command_line
from rayserve_par.settings import load_settings

APP = "front"
_SESSION_VARIABLE = "RAYSERVE_PAR_SESSION"
_PEER_VARIABLE = "BENCH_FRONT_PEER"
_PEER_START_SECONDS = 300.0
_PEER_STOP_SECONDS = 30.0
# Of ray[llm]'s requirements, those that its import asks for and that ours does not bring.
_PEER_PACKAGES = ("pyarrow", "jsonref", "pandas", "pytz", "tzdata", "fsspec")
# Only ours needs it: it turns the platform with several CPU ranks on.
_OURS_ONLY = "RAYSERVE_PAR_CPU_RANKS"


@dataclass(frozen=True, slots=True)
class Server:
    """A server that is up: where it answers, how long it took to start, and whose CPU it uses.

    `headers` go with each request.
    """

    url: str
    start_seconds: float
    processes: Callable[[], list[psutil.Process]]
    headers: Mapping[str, str] = field(default_factory=dict)

    def cpu_seconds(self) -> float:
        """CPU seconds that its living processes have used since they started."""
        total = 0.0
        for process in self.processes():
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system
        return total


@contextmanager
def bare_server(console: Console, load: Workload, log: Path) -> Iterator[Server]:
    """vLLM's own server with exactly the engine arguments and variables that our replica gets."""
    spec = load.spec
    words = ["--model", spec.model_path, "--served-model-name", spec.served_model_name]
    environment = {k: v for k, v in spec.worker_env.items() if k != _OURS_ONLY}
    server = BareServer([*words, *command_line(spec.engine)], environment, free_ports(1)[0], log)
    with stage(console, "Starting the bare vLLM server"):
        server.__enter__()
    try:
        yield Server(server.url, server.start_seconds, lambda: _tree(server.pid))
    finally:
        server.__exit__(None, None, None)


@contextmanager
def our_server(console: Console, args: Mapping[str, Any], hardware: str) -> Iterator[Server]:
    """A local cluster of one node of `hardware` (such as 1x2xh200), serving one application."""
    port = free_ports(1)[0]
    document = {
        "proxy_location": "HeadOnly",
        "http_options": {"host": HOST, "port": port},
        "applications": [
            {"name": APP, "route_prefix": "/", "import_path": IMPORT_PATH, "args": args}
        ],
    }
    app = ConfiguredApp(APP, "/", parse_args(args, "the benchmark"), {})
    config = ServeConfig(Path(__file__), document, (app,))
    _, gpus, kind = hardware.split("x", 2)
    cluster = LocalCluster(http_port=port, nodes=1, gpus_per_node=int(gpus), gpu_kind=kind)
    try:
        with stage(console, "Starting a local Ray cluster"):
            session = cluster.start()
        connect(session.gcs_address)
        client = ServeClient()
        bring_up(console, client, config, document)
        running = time.time()
        wait_for_front(console, f"http://{HOST}:{port}", app)
        state = client.app(APP)
        assert state is not None, "it has just been brought up"
        started = running - float(state.replicas[0]["start_time_s"])
        yield Server(f"http://{HOST}:{port}", started, lambda: _of_session(session.name))
    finally:
        # A second Ctrl-C must not interrupt the cleaning up.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with stage(console, "Stopping the cluster"):
            cluster.stop()


@contextmanager
def peer_server(console: Console, load: Workload, log: Path) -> Iterator[Server]:
    """Ray Serve LLM with its defaults, in a cluster of its own; see `benchmarks.front.serve_llm`.

    Raises:
        RuntimeError: its packages could not be installed, or it did not start.
    """
    spec, port = load.spec, free_ports(1)[0]
    mark = uuid.uuid4().hex
    with stage(console, "Installing what Ray Serve LLM needs"):
        site = _peer_site()
    words = [spec.model_path, spec.served_model_name, str(port), json.dumps(dict(spec.engine))]
    environment = {
        # Our cluster's settings are in this process's environment; the peer runs with its own.
        **{k: v for k, v in os.environ.items() if not k.startswith("RAY")},
        **{k: v for k, v in spec.worker_env.items() if k != _OURS_ONLY},
        "RAY_worker_niceness": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONPATH": str(site),
        _PEER_VARIABLE: mark,
    }
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.front.serve_llm", *words],
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    started = time.monotonic()
    try:
        with stage(console, "Starting Ray Serve LLM"):
            _wait_for_tokens(process, f"http://{HOST}:{port}", spec.served_model_name, log)
        yield Server(
            f"http://{HOST}:{port}",
            time.monotonic() - started,
            lambda: _marked(_PEER_VARIABLE, mark),
        )
    finally:
        with stage(console, "Stopping Ray Serve LLM"):
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=_PEER_STOP_SECONDS)
            for left in _marked(_PEER_VARIABLE, mark):
                left.kill()
            process.wait()


def _peer_site() -> Path:
    """A folder with the packages of ray[llm] that our environment does not have."""
    site = load_settings().cache_dir / "serve-llm-site"
    if not (site / "pyarrow").is_dir():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        done = subprocess.run(
            [*command, "--target", str(site), *_PEER_PACKAGES],
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise RuntimeError(f"Ray Serve LLM's packages did not install:\n{done.stderr[-2000:]}")
    return site


def _wait_for_tokens(process: subprocess.Popen[bytes], url: str, model: str, log: Path) -> None:
    """Its /v1/models answers before the engine does, so a token is asked for."""
    body = {"model": model, "prompt": "a", "max_tokens": 1}
    end = time.monotonic() + _PEER_START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            if httpx.post(f"{url}/v1/completions", json=body, timeout=10).status_code == 200:
                return
        except httpx.HTTPError:
            pass  # not up yet; the limit above ends the wait
        time.sleep(1.0)
    text = log.read_text(encoding="utf-8", errors="replace")
    raise RuntimeError(f"Ray Serve LLM did not start:\n{text[-3000:]}")


def _tree(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def _of_session(name: str) -> list[psutil.Process]:
    """All of the cluster's processes but this one: HAProxy, Ray's daemons, Serve, the engine."""
    return [p for p in _marked(_SESSION_VARIABLE, name) if p.pid != os.getpid()]


def _marked(variable: str, value: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(variable) == value:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found
