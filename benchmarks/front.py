"""A bare vLLM server against ours: same model, same engine arguments, same run.

Run: python -m benchmarks.front [--model tiny-llama] [--json FILE]

Ours is a local Ray cluster with one instance (TP1) behind Serve's HAProxy. Both servers are up
during the whole run and only one is under load: bare, ours, bare, ours, ... for each number of
streams, in rounds; the table has the medians over the rounds. Warm-up requests do not count. The
load comes from a process of its own. Exits with 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.bare_server import BareServer
from benchmarks.summary import (
    BARE,
    METRICS,
    OURS,
    Cell,
    Request,
    Target,
    over_rounds,
    ratio,
    summarize,
    targets,
)
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
from rayserve_par.serving.vllm_bridge.engine_args import command_line

APP = "front"
ROUNDS = 3
_WARM_UP_REQUESTS = 8
_WARM_UP_STREAMS = 4
# Only ours needs it: it turns the platform with several CPU ranks on.
_OURS_ONLY = "RAYSERVE_PAR_CPU_RANKS"


@dataclass(frozen=True, slots=True)
class Workload:
    """A model, and how many requests one cell has at each number of streams."""

    model: str
    requests: Mapping[int, int]

    @property
    def args(self) -> dict[str, Any]:
        """The application's arguments: one instance, TP1."""
        return {
            "model": self.model,
            "layout": {"tp": 1},
            "num_replicas": 1,
            "engine": {"max_model_len": 2048},
        }


# Enough requests for a percentile, few enough for the whole run. The tiny model takes next to no
# time itself, so that its figures are those of the servers.
WORKLOADS = {
    load.model: load
    for load in (
        Workload("smollm2-135m-instruct", {1: 6, 8: 16, 32: 32}),
        Workload("tiny-llama", {1: 40, 8: 80, 32: 160}),
    )
}


@dataclass(frozen=True, slots=True)
class Server:
    """A server that is up: where it answers and how long it took to start."""

    url: str
    start_seconds: float


@contextmanager
def bare_server(console: Console, load: Workload, log: Path) -> Iterator[Server]:
    """vLLM's own server with exactly the engine arguments and variables that our replica gets."""
    args = parse_args(load.args, "the benchmark")
    model = locate_model(args.model)
    spec = replica_spec(args, model, plan_for(args, model, parse_cluster("1x1xlogical-cpu")))
    words = ["--model", spec.model_path, "--served-model-name", spec.served_model_name]
    environment = {k: v for k, v in spec.worker_env.items() if k != _OURS_ONLY}
    server = BareServer([*words, *command_line(spec.engine)], environment, free_ports(1)[0], log)
    with ExitStack() as stack:
        with stage(console, "Starting the bare vLLM server"):
            stack.enter_context(server)
        yield Server(server.url, server.start_seconds)


@contextmanager
def our_server(console: Console, load: Workload) -> Iterator[Server]:
    """A local cluster of one node with one logical GPU, serving one instance of the model."""
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
    cluster = LocalCluster(http_port=port, nodes=1, gpus_per_node=1)
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
        yield Server(f"http://{HOST}:{port}", running - float(state.replicas[0]["start_time_s"]))
    finally:
        # A second Ctrl-C must not interrupt the cleaning up.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with stage(console, "Stopping the cluster"):
            cluster.stop()


def measure(url: str, model: str, *, streams: int, requests: int, seed: int) -> Cell:
    """Load one server from a process of its own.

    Raises:
        RuntimeError: a request failed.
    """
    command = [sys.executable, "-m", "benchmarks.load", url, model, "--streams", str(streams)]
    command += ["--requests", str(requests), "--seed", str(seed)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"The load on {url} failed:\n{done.stderr[-2000:]}")
    return summarize([Request(**request) for request in json.loads(done.stdout)])


def measure_all(
    console: Console, load: Workload, servers: Mapping[str, Server]
) -> dict[tuple[str, int], list[Cell]]:
    """Warm both up, then measure them in turn; cells by server and streams, one for each round."""
    for name, server in servers.items():
        with stage(console, f"Warming up: {name}"):
            measure(
                server.url,
                load.model,
                streams=_WARM_UP_STREAMS,
                requests=_WARM_UP_REQUESTS,
                seed=0,
            )
    cells: dict[tuple[str, int], list[Cell]] = {
        (name, streams): [] for streams in load.requests for name in servers
    }
    for turn in range(ROUNDS):
        for streams, requests in load.requests.items():
            for name, server in servers.items():
                title = f"Round {turn + 1} of {ROUNDS}, {streams} streams: {name}"
                with stage(console, title):
                    seed = 1 + turn * len(load.requests) + list(load.requests).index(streams)
                    cell = measure(
                        server.url, load.model, streams=streams, requests=requests, seed=seed
                    )
                cells[name, streams].append(cell)
    return cells


def table(load: Workload, medians: Mapping[tuple[str, int], Cell]) -> Table:
    """Bare, ours and their ratio for each metric and number of streams."""
    made = Table("streams", "metric", "bare", "ours", "ours / bare", title=f"{load.model}, medians")
    for streams in load.requests:
        bare, ours = medians[BARE, streams], medians[OURS, streams]
        for metric in METRICS:
            made.add_row(
                str(streams),
                metric,
                f"{getattr(bare, metric):.4f}",
                f"{getattr(ours, metric):.4f}",
                f"{ratio(ours, bare, metric):.2f}",
            )
        made.add_section()
    return made


def report(
    load: Workload,
    rounds: Mapping[tuple[str, int], list[Cell]],
    servers: Mapping[str, Server],
    judged: tuple[Target, ...],
    idle_cpu_percent: float,
) -> dict[str, Any]:
    """Everything measured, for a file."""
    return {
        "model": load.model,
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform()},
        "idle_cpu_percent": idle_cpu_percent,
        "start_seconds": {name: server.start_seconds for name, server in servers.items()},
        "cells": [
            {"server": name, "streams": streams, "rounds": [asdict(cell) for cell in cells]}
            for (name, streams), cells in rounds.items()
        ],
        "targets": [{**asdict(target), "met": target.met} for target in judged],
    }


def run(console: Console, load: Workload, json_file: Path | None) -> bool:
    """Measure and print; returns whether every target is met."""
    with stage(console, f"Preparing {load.model}"):
        locate_model(load.model)
        # The first start would otherwise pay for reading vLLM and torch from the disk.
        subprocess.run([sys.executable, "-c", "import vllm"], check=True, capture_output=True)
    with (
        tempfile.TemporaryDirectory(prefix="bench-front-") as folder,
        bare_server(console, load, Path(folder, "bare.log")) as bare,
        our_server(console, load) as ours,
    ):
        servers = {BARE: bare, OURS: ours}
        idle_cpu_percent = psutil.cpu_percent(interval=5.0)
        rounds = measure_all(console, load, servers)
    medians = {key: over_rounds(cells) for key, cells in rounds.items()}
    starts = {name: server.start_seconds for name, server in servers.items()}
    judged = targets(medians, starts)
    console.print(table(load, medians))
    console.print(f"start: bare {starts[BARE]:.1f} s, our replica {starts[OURS]:.1f} s")
    console.print(f"CPU used by both servers when idle: {idle_cpu_percent:.0f}% of the machine")
    for target in judged:
        console.print(f"{'met   ' if target.met else 'MISSED'} {target}")
    if json_file is not None:
        text = json.dumps(report(load, rounds, servers, judged, idle_cpu_percent), indent=2)
        json_file.write_text(f"{text}\n", encoding="utf-8")
    return all(target.met for target in judged)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write all measurements to this file")
    parser.add_argument("--model", choices=WORKLOADS, default="smollm2-135m-instruct")
    args = parser.parse_args()
    console = Console(highlight=False)
    # Python leaves SIGINT ignored where a shell started it in the background.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        met = run(console, WORKLOADS[args.model], args.json)
    except KeyboardInterrupt:
        console.print("Stopped.")
        sys.exit(130)
    sys.exit(0 if met else 1)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
