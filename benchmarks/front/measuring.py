"""One server or several under load, from client processes that share the streams."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from rich.console import Console

from benchmarks.front.servers import Server
from benchmarks.front.summary import Cell, Request, summarize
from benchmarks.front.workloads import Workload
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
