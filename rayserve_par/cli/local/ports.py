"""TCP ports of this machine for the processes of a local cluster."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil

from rayserve_par.errors import RefusedError

HOST = "127.0.0.1"
# Ray gives its workers those up to 19999.
_FIRST = 20000
_GIVEN_FILE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LEAST = 1000


def free_ports(count: int) -> list[int]:
    """`count` different TCP ports of the loopback address that nobody uses now.

    They are below those that the kernel gives to connections, where it says which these are: one of
    these may be taken before the port is listened on.
    """
    end = _first_given()
    candidates: Iterable[int] = ()
    if end - _FIRST >= _LEAST:
        candidates = random.sample(range(_FIRST, end), _LEAST)
    with ExitStack() as stack:
        found: list[int] = []
        for port in (*candidates, *[0] * count):
            if len(found) == count:
                break
            probe = stack.enter_context(socket.socket())
            with suppress(OSError):  # somebody uses it
                probe.bind((HOST, port))
                found.append(probe.getsockname()[1])
        return found


def _first_given() -> int:
    """The first port that the kernel gives to connections; 0 where it does not say."""
    try:
        return int(_GIVEN_FILE.read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return 0


def check_port(port: int) -> None:
    """Refuse an HTTP port that something already listens on.

    Raises:
        RefusedError: the port is busy; the message names the process where it can be seen.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise RefusedError(
                f"Port {port} is busy{_listener(port)}. Stop that, or choose another port: --port."
            ) from error


def _listener(port: int) -> str:
    for connection in psutil.net_connections(kind="tcp"):
        if not connection.laddr or connection.status != psutil.CONN_LISTEN:
            continue
        if connection.laddr.port == port:
            if connection.pid is None:
                return ""
            return f" (process {connection.pid}, {psutil.Process(connection.pid).name()})"
    return ""
