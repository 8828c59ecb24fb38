"""What HAProxy itself says: its log, one line for each request, and its servers' states.

A reload replaces the process and with it every counter of its stats socket, while the old one goes
on with its streams; so retries are counted from the log, to which old and new processes write.
Format (`option httplog`, HAProxy configuration manual 8.2.3):
  client [date] frontend backend/server TR/Tw/Tc/Tr/Ta status bytes - - state
  actconn/feconn/beconn/srv_conn/retries queues "request"
`retries` is "+N" where the last of them went to another server than the first.
"""

from __future__ import annotations

import csv
import io
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

_LINE = re.compile(
    r"\]: \S+ \[[^\]]+\] \S+ (?P<backend>[^/\s]+)/(?P<server>\S+) "
    r"(?:-?\d+/){4}\+?(?P<active>\d+) (?P<status>-?\d+) \+?\d+ "
    r"\S+ \S+ (?P<state>\S+) \d+/\d+/\d+/\d+/(?P<retries>\+?\d+) \d+/\d+ .*"
    r'"(?P<method>[A-Z]+) (?P<path>\S+)'
)
_SOCKET_SECONDS = 2.0
_COUNTED_PATH = "/v1/chat/completions"


@dataclass(frozen=True, slots=True)
class LogLine:
    """One request as HAProxy logged it, when it was over: at `end`, by this process's clock."""

    begin: float
    end: float
    backend: str
    server: str
    status: int
    state: str
    retries: int
    redispatched: bool
    path: str

    @property
    def retried(self) -> bool:
        """Whether it was answered after a first attempt elsewhere had failed."""
        return (self.retries > 0 or self.redispatched) and 0 < self.status < 500


def parse_log_line(line: str, end: float) -> LogLine | None:
    """The request that a line of the log is about; None for lines about something else."""
    found = _LINE.search(line)
    if found is None:
        return None
    return LogLine(
        begin=end - int(found["active"]) / 1e3,
        end=end,
        backend=found["backend"],
        server=found["server"],
        status=int(found["status"]),
        state=found["state"],
        retries=int(found["retries"].lstrip("+")),
        redispatched=found["retries"].startswith("+"),
        path=found["path"],
    )


def count_retried(lines: Iterable[LogLine]) -> int:
    """Chat completions that were answered by another instance than the first chosen."""
    return sum(line.retried for line in lines if line.path.startswith(_COUNTED_PATH))


def count_unanswered(lines: Iterable[LogLine]) -> dict[str, int]:
    """Chat completions without status 200, by status, how the session ended, and who answered.

    The first letter of the state names the side that ended it, the second the phase (HAProxy
    configuration manual 8.5): "SC" is no connection to a server, "SH" none of its headers.
    """
    found = [line for line in lines if line.path.startswith(_COUNTED_PATH) and line.status != 200]
    return dict(
        Counter(
            f"{line.status} {line.state} from "
            + ("HAProxy" if line.server.startswith("<") else "an instance")
            for line in found
        )
    )


def servers_up(show_stat: str) -> frozenset[str]:
    """Applications' servers that are up, backups left out, from the answer to `show stat`."""
    rows = csv.DictReader(io.StringIO(show_stat.removeprefix("# ")))
    return frozenset(
        row["svname"]
        for row in rows
        if row["pxname"].startswith("http-")
        and row["svname"] not in {"FRONTEND", "BACKEND"}
        and row["status"].split(" ")[0] in {"UP", "no"}
        and row.get("bck") == "0"
    )


def ask_admin(socket_path: Path, command: str) -> str:
    """Send one command to HAProxy's admin socket.

    Raises:
        OSError: nobody answers there.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_SOCKET_SECONDS)
        connection.connect(str(socket_path))
        connection.sendall(f"{command}\n".encode())
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts).decode("utf-8", errors="replace")


def running_pid(show_info: str) -> int:
    """The process that answered `show info`.

    Raises:
        ValueError: the answer names none.
    """
    for line in show_info.splitlines():
        if line.startswith("Pid:"):
            return int(line.split(":", 1)[1])
    raise ValueError(f"no Pid in {show_info!r}")


@dataclass(slots=True)
class LogReceiver:
    """Context manager: a syslog server for HAProxy on `target`; keeps every line with its time."""

    lines: list[LogLine] = field(default_factory=list)
    _socket: socket.socket | None = None
    _thread: threading.Thread | None = None

    @property
    def target(self) -> str:
        """Address for HAProxy's `log`."""
        assert self._socket is not None, "the receiver is open"
        host, port = self._socket.getsockname()
        return f"{host}:{port}"

    def since(self, seconds: float) -> tuple[LogLine, ...]:
        """Requests that came after that time."""
        return tuple(line for line in tuple(self.lines) if line.begin >= seconds)

    def __enter__(self) -> Self:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._receive, args=(self._socket,), daemon=True)
        self._thread.start()
        return self

    def _receive(self, receiving: socket.socket) -> None:
        while True:
            text = receiving.recv(65536)
            if not text:
                return  # the wake-up call of __exit__
            line = parse_log_line(text.decode("utf-8", errors="replace"), time.monotonic())
            if line is not None:
                self.lines.append(line)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._socket is not None, "the receiver is open"
        assert self._thread is not None, "the receiver is open"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waking:
            waking.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()
