"""The real HAProxy as Serve would start it, in front of any servers: no Ray cluster is needed.

Serve's own classes write the configuration (`ray.serve._private.haproxy`, Ray 2.60), as its proxy
actor does for a deployment with these replicas; our launcher corrects it and becomes HAProxy.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.routing.engines import wait_for
from rayserve_par.cli.local.ports import HOST, free_ports

_STOP_SECONDS = 5.0
APP = "mock"


@dataclass(frozen=True, slots=True)
class Proxy:
    """A running HAProxy."""

    url: str
    pid: int


def write_config(ports: Sequence[int], port: int, folder: Path) -> Path:
    """Serve's configuration of one app on `/` whose replicas listen on `ports`."""
    from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
    from ray.serve.config import HTTPOptions

    file = folder / "haproxy.cfg"
    stats_port, metrics_port = free_ports(2)
    config = HAProxyConfig(
        http_options=HTTPOptions(host=HOST, port=port),
        socket_path=str(folder / "admin.sock"),
        server_state_base=str(folder),
        server_state_file=str(folder / "server-state"),
        stats_port=stats_port,
        metrics_port=metrics_port,
        metrics_enabled=False,
        has_received_routes=True,
        has_received_servers=True,
        is_head=True,
    )
    servers = [
        ServerConfig(name=f"{APP}-{number}", host=HOST, port=each)
        for number, each in enumerate(ports)
    ]
    backend = BackendConfig(name=f"http-{APP}", path_prefix="/", app_name=APP, servers=servers)
    api = HAProxyApi(config, {backend.name: backend}, str(file))
    api._generate_config_file_internal()
    return file


@contextmanager
def haproxy(ports: Sequence[int], folder: Path, environment: Mapping[str, str]) -> Iterator[Proxy]:
    """HAProxy before `ports`, started by our launcher with `environment` (RAYSERVE_PAR_...).

    Raises:
        RuntimeError: it does not start.
    """
    (port,) = free_ports(1)
    file = write_config(ports, port, folder)
    command = [sys.executable, "-m", "rayserve_par.serving.front.launcher", "-db", "-f", str(file)]
    log = folder / "haproxy.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env={**os.environ, **environment}, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        url = f"http://{HOST}:{port}"
        wait_for(f"{url}/v1/models", log)
        yield Proxy(url, process.pid)
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
