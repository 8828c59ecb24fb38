"""A bare vLLM server against ours: same model, same engine arguments, same run.

Run: python -m benchmarks.front [--model tiny-llama] [--rounds 3] [--streams 1 8] [--peer]

All servers are up during the whole run and only one is under load: bare, ours, bare, ours, ...
for each number of streams, in rounds; the table has the medians over the rounds. With `--rate`
requests come by a Poisson process instead of when a stream's last one ends. Warm-up requests do not
count. The load comes from processes of its own. CPU seconds are those of all processes of a
server (for ours with Ray's daemons and HAProxy) during a cell. With `--peer` Ray Serve LLM is a
third server; with `--past-haproxy` our replica is asked on its own port too. `--spread 0.5` lets
answers differ in length. Exits with 1 if a target is missed.
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
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from types import FrameType
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.front.past_haproxy import past_haproxy
from benchmarks.front.servers import Server, bare_server, our_server, peer_server
from benchmarks.front.summary import (
    BARE,
    METRICS,
    OURS,
    PAST,
    PEER,
    Cell,
    Request,
    Target,
    over_rounds,
    ratio,
    summarize,
    targets,
)
from benchmarks.front.workloads import WORKLOADS, Workload
from rayserve_par.cli.stages import stage

_WARM_UP_REQUESTS = 128
_WARM_UP_STREAMS = 32
# Until then every client has started.
_CLIENT_START_SECONDS = 1.5
_SESSION_VARIABLE = "RAYSERVE_PAR_SESSION"


def measure(server: Server, load: Workload, *, streams: int, requests: int, seed: int) -> Cell:
    """Load one server from processes of their own, which share the streams.

    Raises:
        RuntimeError: a request failed.
    """
    command = [sys.executable, "-m", "benchmarks.front.load", server.url]
    command += [load.spec.served_model_name, "--prompt-words", str(load.prompt_words)]
    command += ["--output-tokens", str(load.output_tokens)]
    command += ["--spread", str(load.spread), "--headers", json.dumps(dict(server.headers))]
    # Without the cluster's mark, which would count the clients among the server's processes.
    environment = {k: v for k, v in os.environ.items() if k != _SESSION_VARIABLE}
    start = time.monotonic() + _CLIENT_START_SECONDS
    command += ["--at", str(start)]
    shares = client_shares(streams, requests)
    clients = [
        subprocess.Popen(
            [
                *command,
                "--streams",
                str(n),
                "--requests",
                str(m),
                "--seed",
                str(seed * 100 + place),
                "--rate",
                str(load.rate / len(shares)),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for place, (n, m) in enumerate(shares)
    ]
    time.sleep(max(0.0, start - time.monotonic()))
    before = server.cpu_seconds()
    with ThreadPoolExecutor(len(clients)) as pool:
        ends = list(pool.map(lambda client: client.communicate(), clients))
    cpu_seconds = server.cpu_seconds() - before
    for client, (_, errors) in zip(clients, ends, strict=True):
        if client.returncode != 0:
            raise RuntimeError(f"The load on {server.url} failed:\n{errors[-2000:]}")
    answers = [Request(**one) for out, _ in ends for one in json.loads(out)]
    return summarize(answers, cpu_seconds)


def client_shares(streams: int, requests: int, cores: int | None = None) -> list[tuple[int, int]]:
    """Streams and requests of each client process: one for 8 streams, and for 4 of `cores`.

    One process reads some 15,000 pieces of streams a second, less than a server may send.
    """
    cores = cores or os.cpu_count() or 1
    count = max(1, min(streams // 8, cores // 4))
    return [
        (
            streams // count + (place < streams % count),
            requests // count + (place < requests % count),
        )
        for place in range(count)
    ]


def measure_all(
    console: Console, load: Workload, servers: Mapping[str, Server], rounds: int
) -> Iterator[dict[tuple[str, int], list[Cell]]]:
    """Warm both up, then measure them in turn.

    Yields after each round the cells by server and streams, one of each round so far.
    """
    for name, server in servers.items():
        with stage(console, f"Warming up: {name}"):
            measure(
                server,
                replace(load, rate=0.0),
                streams=_WARM_UP_STREAMS,
                requests=min(_WARM_UP_REQUESTS, max(load.requests.values())),
                seed=0,
            )
    cells: dict[tuple[str, int], list[Cell]] = {
        (name, streams): [] for streams in load.requests for name in servers
    }
    for turn in range(rounds):
        for place, (streams, requests) in enumerate(load.requests.items()):
            seed = 1 + turn * len(load.requests) + place
            for name, server in servers.items():
                title = f"Round {turn + 1} of {rounds}, {streams} streams: {name}"
                with stage(console, title):
                    cell = measure(server, load, streams=streams, requests=requests, seed=seed)
                cells[name, streams].append(cell)
        yield cells


def table(load: Workload, medians: Mapping[tuple[str, int], Cell]) -> Table:
    """Every server for each metric and number of streams, and the ratios to the bare one."""
    names = list(dict.fromkeys(name for name, _ in medians))
    others = [name for name in names if name != BARE]
    made = Table("streams", "metric", *names, title=f"{load.model}, medians")
    for name in others:
        made.add_column(f"{name} / bare")
    for streams in load.requests:
        bare = medians[BARE, streams]
        for metric in METRICS:
            cells = [f"{getattr(medians[name, streams], metric):.4f}" for name in names]
            ratios = [f"{ratio(medians[name, streams], bare, metric):.2f}" for name in others]
            made.add_row(str(streams), metric, *cells, *ratios)
        made.add_section()
    return made


def report(
    load: Workload,
    rounds: Mapping[tuple[str, int], list[Cell]],
    starts: Mapping[str, float],
    judged: tuple[Target, ...],
    idle_cpu_percent: float,
) -> dict[str, Any]:
    """Everything measured, for a file."""
    return {
        "model": load.model,
        "hardware": load.hardware,
        "engine": dict(load.engine),
        "prompt_words": load.prompt_words,
        "output_tokens": load.output_tokens,
        "spread": load.spread,
        "rate": load.rate,
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform()},
        "idle_cpu_percent": idle_cpu_percent,
        "start_seconds": dict(starts),
        "cells": [
            {"server": name, "streams": streams, "rounds": [asdict(cell) for cell in cells]}
            for (name, streams), cells in rounds.items()
        ],
        "targets": [{**asdict(target), "met": target.met} for target in judged],
    }


def run(
    console: Console, load: Workload, rounds: int, json_file: Path | None, *, more: Sequence[str]
) -> bool:
    """Measure and print; `more`: PEER, PAST. Returns whether every target is met."""
    with stage(console, f"Preparing {load.model}"):
        load.prepare()
        # The first start would otherwise pay for reading vLLM and torch from the disk.
        subprocess.run([sys.executable, "-c", "import vllm"], check=True, capture_output=True)
    with (
        tempfile.TemporaryDirectory(prefix="bench-front-") as folder,
        bare_server(console, load, Path(folder, "bare.log")) as bare,
        our_server(console, load.args, load.hardware) as ours,
        ExitStack() as stack,
    ):
        servers = {BARE: bare, OURS: ours}
        if PAST in more:
            servers[PAST] = past_haproxy(ours)
        if PEER in more:
            log = Path(folder, "peer.log")
            servers[PEER] = stack.enter_context(peer_server(console, load, log))
        idle_cpu_percent = psutil.cpu_percent(interval=5.0)
        starts = {name: server.start_seconds for name, server in servers.items()}
        for cells in measure_all(console, load, servers, rounds):
            medians = {key: over_rounds(measured) for key, measured in cells.items()}
            judged = targets(medians, starts, load.bounds)
            if json_file is not None:
                # After each round, so that a run that is stopped leaves what it measured.
                data = report(load, cells, starts, judged, idle_cpu_percent)
                json_file.write_text(f"{json.dumps(data, indent=2)}\n", encoding="utf-8")
    console.print(table(load, medians))
    console.print(f"start: bare {starts[BARE]:.1f} s, our replica {starts[OURS]:.1f} s")
    console.print(f"CPU used by the servers when idle: {idle_cpu_percent:.0f}% of the machine")
    for target in judged:
        console.print(f"{'met   ' if target.met else 'MISSED'} {target}")
    return all(target.met for target in judged)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write all measurements to this file")
    parser.add_argument("--model", choices=WORKLOADS, default="tiny-llama")
    parser.add_argument("--rounds", type=int, default=3, help="alternations (default: 3)")
    parser.add_argument("--streams", type=int, nargs="*", help="of the model's (default: all)")
    parser.add_argument(
        "--rate", type=float, default=0.0, help="requests a second, --streams at once at most"
    )
    parser.add_argument(
        "--spread", type=float, default=0.0, help="share by which answers' lengths differ, 0 to 1"
    )
    parser.add_argument(
        "--peer",
        action="append_const",
        dest="more",
        const=PEER,
        default=[],
        help="Ray Serve LLM as a further server",
    )
    parser.add_argument(
        "--past-haproxy",
        action="append_const",
        dest="more",
        const=PAST,
        help="our replica at its own port as a further server",
    )
    args = parser.parse_args()
    load = WORKLOADS[args.model]
    if args.streams:
        unknown = set(args.streams) - set(load.requests)
        if unknown:
            parser.error(f"--streams: choose from {', '.join(map(str, load.requests))}")
        load = replace(load, requests={n: load.requests[n] for n in args.streams})
    if args.rate < 0:
        parser.error(f"--rate: {args.rate:g}, but it is a number of requests a second, 0 or more")
    if not 0 <= args.spread <= 1:
        parser.error(f"--spread: {args.spread:g}, but it is a share, 0 to 1")
    load = replace(load, rate=args.rate, spread=args.spread)
    console = Console(highlight=False)
    # Python leaves SIGINT ignored where a shell started it in the background.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        met = run(console, load, args.rounds, args.json, more=args.more)
    except KeyboardInterrupt:
        console.print("Stopped.")
        sys.exit(130)
    sys.exit(0 if met else 1)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
