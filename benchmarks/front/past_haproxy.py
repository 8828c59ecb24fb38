"""Our replica asked on its own port, so that what HAProxy costs can be told from the rest."""

from __future__ import annotations

from dataclasses import replace

import httpx
import psutil

from benchmarks.front.servers import Server
from rayserve_par.cli.local.ports import HOST

# What our front adds to every request: HAProxy tells the replica when a client leaves.
UNWATCHED = {"x-request-disconnect-disabled": "?1"}


def past_haproxy(server: Server) -> Server:
    """`server`, which is ours with one instance, at its replica's port; its CPU is counted alike.

    Raises:
        RuntimeError: no replica serves HTTP.
    """
    port = listening_port(replica_process(server))
    return replace(server, url=f"http://{HOST}:{port}", headers=UNWATCHED)


def replica_process(server: Server) -> psutil.Process:
    """The process of our one replica."""
    return next(p for p in server.processes() if "ServeReplica" in "".join(p.cmdline()))


def listening_port(process: psutil.Process) -> int:
    """The port on which a replica serves HTTP.

    Raises:
        RuntimeError: none of its ports does.
    """
    for found in process.net_connections(kind="tcp"):
        if found.status == psutil.CONN_LISTEN:
            try:
                answer = httpx.get(f"http://{HOST}:{found.laddr.port}/-/healthz", timeout=2)
            except httpx.HTTPError:
                continue  # another of its servers
            if answer.status_code == 200:
                return int(found.laddr.port)
    raise RuntimeError("The replica has no port that answers /-/healthz.")
