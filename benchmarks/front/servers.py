"""The servers that are compared: each a context manager that yields where it answers.

All serve the same model with the same engine arguments: vLLM's own server, ours (one instance,
TP1, behind Serve's HAProxy), and Ray Serve LLM with its defaults where it is installed.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

from benchmarks.front.bare_server import BareServer
from rayserve_par.cli.bring_up import bring_up, wait_for_front
from rayserve_par.cli.connect import connect
from rayserve_par.cli.local.cluster import LocalCluster
from rayserve_par.cli.local.session import HOST, free_ports
from rayserve_par.cli.stages import stage
from rayserve_par.control.config_file import IMPORT_PATH, ConfiguredApp, ServeConfig
from rayserve_par.control.serve_client import ServeClient
from rayserve_par.hardware.cluster import parse_cluster
from rayserve_par.serving.app import plan_for, replica_spec
from rayserve_par.serving.config import parse_args
from rayserve_par.serving.model_store.locate import locate_model
from rayserve_par.serving.replica_spec import ReplicaSpec
from rayserve_par.serving.vllm_bridge.engine_args import command_line

APP = "front"
_SESSION_VARIABLE = "RAYSERVE_PAR_SESSION"
# Only ours needs it: it turns the platform with several CPU ranks on.
_OURS_ONLY = "RAYSERVE_PAR_CPU_RANKS"


@dataclass(frozen=True, slots=True)
class Workload:
    """A model, the hardware, and how many requests one cell has at each number of streams."""

    model: str
    requests: Mapping[int, int]
    hardware: str = "1x1xlogical-cpu"
    engine: Mapping[str, Any] = field(default_factory=lambda: {"max_model_len": 2048})

    @property
    def args(self) -> dict[str, Any]:
        """The application's arguments: one instance, TP1."""
        return {
            "model": self.model,
            "layout": {"tp": 1},
            "num_replicas": 1,
            "engine": dict(self.engine),
        }

    @property
    def spec(self) -> ReplicaSpec:
        """What our replica is told."""
        args = parse_args(self.args, "the benchmark")
        model = locate_model(args.model)
        return replica_spec(args, model, plan_for(args, model, parse_cluster(self.hardware)))


@dataclass(frozen=True, slots=True)
class Server:
    """A server that is up: where it answers, how long it took to start, and whose CPU it uses."""

    url: str
    start_seconds: float
    processes: Callable[[], list[psutil.Process]]

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
def our_server(console: Console, load: Workload) -> Iterator[Server]:
    """A local cluster of one node with one GPU, serving one instance of the model."""
    port = free_ports(1)[0]
    document = {
        "proxy_location": "HeadOnly",
        "http_options": {"host": HOST, "port": port},
        "applications": [
            {"name": APP, "route_prefix": "/", "import_path": IMPORT_PATH, "args": load.args}
        ],
    }
    app = ConfiguredApp(APP, "/", parse_args(load.args, "the benchmark"), {})
    config = ServeConfig(Path(__file__), document, (app,))
    kind = load.hardware.rsplit("x", 1)[-1]
    cluster = LocalCluster(http_port=port, nodes=1, gpus_per_node=1, gpu_kind=kind)
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


def _tree(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def _of_session(name: str) -> list[psutil.Process]:
    """All of the cluster's processes but this one: HAProxy, Ray's daemons, Serve, the engine."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(_SESSION_VARIABLE) == name:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found
