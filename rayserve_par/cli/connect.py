"""Finds the Ray cluster that a command is about, and connects to it."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

from rayserve_par.errors import RefusedError

_CONNECT_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Connection:
    """A connected cluster: its GCS address and, if it is a local one of ours, its HTTP port."""

    gcs_address: str
    http_port: int | None = None


def connect(address: str | None) -> Connection:
    """Connect this process to `address` ("host:port", "auto", or None for the local cluster).

    Raises:
        RefusedError: nothing answers there, or no local cluster runs.
    """
    from rayserve_par.cli.local import session as sessions

    local = next((s for s in sessions.read_sessions() if s.alive), None)
    if address is None or (local is not None and address == local.gcs_address):
        if local is None:
            raise RefusedError(
                "No local cluster runs. Start one with `rayserve-par serve`, or name a cluster: "
                "--address HOST:PORT (its GCS address, shown by `ray start`), or --address auto."
            )
        sessions.use_loopback()
        os.environ["RAY_AUTH_MODE"] = "disabled"
        _init(local.gcs_address)
        return Connection(local.gcs_address, local.http_port)
    if "://" in address:
        raise RefusedError(
            f"{address} is a dashboard or a Ray client server; the checks before a deployment read "
            "Ray's own tables. Give the GCS address (HOST:6379 by default, shown by `ray start`), "
            "or --address auto on a node of the cluster."
        )
    return Connection(_init(address))


def _init(address: str) -> str:
    import logging

    import ray

    _check_reachable(address)
    if ray.is_initialized():
        return str(ray.get_runtime_context().gcs_address)
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            namespace="rayserve_par",
        )
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise RefusedError(f"No Ray cluster answers at {address}: {reason}") from error
    return str(ray.get_runtime_context().gcs_address)


def _check_reachable(address: str) -> None:
    """Refuse an address where nothing listens: Ray itself would wait for minutes."""
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        return  # "auto" and the like, which Ray resolves
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        raise RefusedError(
            f"Nothing answers at {address}: {error.strerror or error}. Give the GCS address of a "
            "running cluster (HOST:6379 by default, shown by `ray start`)."
        ) from error
