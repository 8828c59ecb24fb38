"""One local cluster's session: its folder, its ports, and the environment of its processes.

Every process of the cluster inherits `RAYSERVE_PAR_SESSION`, so all of them can be found and
stopped, also those that lost their parents.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from rayserve_par.cli.local.ports import HOST, free_ports
from rayserve_par.errors import RefusedError
from rayserve_par.settings import load_settings

# Without it Ray replaces a loopback address by the machine's own, and listens to the network. The
# variable is named after the systems where that is the default.
LOOPBACK_ENVIRONMENT = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
_SESSION_VARIABLE = "RAYSERVE_PAR_SESSION"
# The kernel counts a process's start from the boot, whose time moves as the clock is corrected.
_START_TOLERANCE_SECONDS = 5.0
# Ray keeps sockets and logs there; its object store counts apart.
_FOLDER_BYTES = 500 * 2**20


@dataclass(frozen=True, slots=True)
class Session:
    """What another process needs to find a local cluster: written to `sessions/NAME.json`."""

    name: str
    owner_pid: int
    owner_started: float
    folder: str
    gcs_address: str
    dashboard_url: str
    http_port: int

    @property
    def alive(self) -> bool:
        """Whether the process that owns the cluster still runs."""
        try:
            started = psutil.Process(self.owner_pid).create_time()
        except psutil.NoSuchProcess:
            return False
        return abs(started - self.owner_started) < _START_TOLERANCE_SECONDS


def own_start_time() -> float:
    """When this process started, in seconds since the epoch."""
    return float(psutil.Process().create_time())


def session_name() -> str:
    """A name for this process's cluster that no other process has: its pid and start time."""
    return f"rsp-{os.getpid()}-{int(own_start_time())}"


def _sessions_folder() -> Path:
    return load_settings().cache_dir / "sessions"


def write_session(session: Session) -> None:
    """Record a running local cluster."""
    folder = _sessions_folder()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{session.name}.json").write_text(json.dumps(asdict(session)), encoding="utf-8")


def read_sessions() -> Iterator[Session]:
    """All recorded local clusters, the newest first, dead ones included."""
    files = sorted(_sessions_folder().glob("*.json"), key=lambda f: f.stat().st_mtime, reverse=True)
    for file in files:
        yield Session(**json.loads(file.read_text(encoding="utf-8")))


def forget_session(name: str) -> None:
    """Delete the record of a local cluster."""
    (_sessions_folder() / f"{name}.json").unlink(missing_ok=True)


def make_folder() -> Path:
    """A new folder for Ray's sockets and logs, with a path short enough for Unix sockets.

    Raises:
        RefusedError: the disk has too little space.
    """
    parent = Path(tempfile.gettempdir())
    free = shutil.disk_usage(parent).free
    if free < _FOLDER_BYTES:
        raise RefusedError(
            f"A local cluster needs {_FOLDER_BYTES / 2**20:.0f} MiB in {parent} for logs and "
            f"sockets; {free / 2**20:.0f} MiB are free. Free some, or set TMPDIR."
        )
    return Path(tempfile.mkdtemp(prefix="rsp-", dir=parent))


def cluster_environment(name: str, folder: Path) -> dict[str, str]:
    """Variables that all processes of the cluster are started with.

    HAProxy's files and ports are the session's own: by default two clusters would collide.
    """
    haproxy = folder / "haproxy"
    metrics_port, stats_port = free_ports(2)
    return {
        _SESSION_VARIABLE: name,
        "RAYSERVE_PAR_FRONT_HOST": HOST,
        "RAY_USAGE_STATS_ENABLED": "0",
        # Ray's note of the current cluster goes there, not over that of a cluster of the user's.
        "RAY_TMPDIR": str(folder),
        **LOOPBACK_ENVIRONMENT,
        # cluster_utils starts without token authentication; every process must agree.
        "RAY_AUTH_MODE": "disabled",
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(Path(sys.executable).parent / "rayserve-par-haproxy"),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(haproxy / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(haproxy / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(haproxy),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(haproxy / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(haproxy / "metrics.sock"),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics_port),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(stats_port),
        # Ray runs its workers at niceness 15, so every other process goes before a replica.
        "RAY_worker_niceness": "0",
        # A reloaded HAProxy leaves with its last stream, and cuts what is left after so long.
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": "3600",
        "RAY_SERVE_HAPROXY_NBTHREAD": str(min(4, os.cpu_count() or 1)),
        # An instance listens so long after it was told to stop. Replicas of ours have it anyway
        # (serving/direct_ingress.py); Serve's controller makes its own limits of it.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "3",
        # A dead HAProxy is replaced after three questions: 3 s instead of 30.
        "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
    }


def use_loopback() -> None:
    """Make Ray in this process take a loopback address as it is."""
    os.environ.update(LOOPBACK_ENVIRONMENT)
    from ray._private import ray_constants

    # Read from the environment when Ray is imported; this process may have done so before.
    ray_constants.ENABLE_RAY_CLUSTER = False


def kill_session(name: str) -> int:
    """Kill every process that carries the session's mark; return how many there were."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(_SESSION_VARIABLE) == name:
                process.kill()
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    psutil.wait_procs(found, timeout=10)
    return len(found)


def sweep_dead_sessions() -> int:
    """Clean up after local clusters whose owners are gone; return how many there were."""
    dead = [session for session in read_sessions() if not session.alive]
    for session in dead:
        kill_session(session.name)
        shutil.rmtree(session.folder, ignore_errors=True)
        forget_session(session.name)
    return len(dead)
