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
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import FrameType

import psutil
from rich.console import Console

from benchmarks.front.measuring import measure_all
from benchmarks.front.past_haproxy import past_haproxy
from benchmarks.front.report import report, table
from benchmarks.front.servers import bare_server, our_server, peer_server
from benchmarks.front.summary import (
    BARE,
    OURS,
    PAST,
    PEER,
    over_rounds,
    targets,
)
from benchmarks.front.workloads import WORKLOADS, Workload
from rayserve_par.cli.stages import stage


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
