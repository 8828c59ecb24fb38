"""Watches one HAProxy and stands another in its place when it dies without a successor.

Serve notices a dead HAProxy after three failed questions and then starts another, which leaves the
port without a listener for 6 to 7 s. The guard is a process of its own, forked before the launcher
becomes HAProxy, which gets a process group of its own: Ray ends a dead worker's group, and
HAProxy's streams need no manager. The guard sleeps until the kernel tells it of a death:

- HAProxy ended and another was launched since (Serve reloads so): nothing to do.
- HAProxy ended alone: the same command is started again at once, on the same ports but without the
  admin socket. Serve's manager asks there, finds nobody, and is replaced as it would have been:
  one that goes on with a process it did not start can never reload it (Ray 2.60).
- The manager ends within `_SHUTDOWN_SECONDS` after HAProxy: Serve shuts down, which kills HAProxy
  first. The stand-in ends with it. So it does where the guard, kept from the cores, has not seen
  the manager alive after that time: Serve takes 6 s to replace one.
- The manager ended first (killed): its HAProxy is its own stand-in.
- The manager ends later (replaced): the stand-in serves.

A stand-in serves until the next manager launches its own, at most `_BRIDGE_SECONDS`; neither it nor
a HAProxy that finishes its streams outlives the raylet.

Who was launched last stands in `front.pid`, the stand-in in `stand_in.pid`; the launcher tells the
next HAProxy to take over from it (`-sf`), which lets its streams finish.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_BRIDGE_SECONDS = 30.0
_SHUTDOWN_SECONDS = 2.0
_POLL_SECONDS = 0.25
# One that ends sooner cannot serve: its configuration or its ports are the reason.
_LEAST_LIFE_SECONDS = 1.0
_ADMIN_SOCKET = re.compile(r"^[ \t]*stats socket .*\n", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Watched:
    """The HAProxy to be, its manager (who launched it), the manager's parent, and its command."""

    haproxy: int
    manager: int
    raylet: int
    command: tuple[str, ...]
    folder: Path

    @property
    def last_file(self) -> Path:
        """Holds the process that was launched last."""
        return self.folder / "front.pid"

    @property
    def stand_in_file(self) -> Path:
        """Holds the stand-in's process."""
        return self.folder / "stand_in.pid"

    @property
    def config_file(self) -> Path:
        """The stand-in's configuration."""
        return self.folder / "stand_in.cfg"

    @property
    def superseded(self) -> bool:
        """Whether another HAProxy was launched since."""
        return _read_pid(self.last_file) != self.haproxy


def with_takeover(arguments: Sequence[str], folder: Path) -> list[str]:
    """HAProxy's arguments, so that a living stand-in of `folder` is taken over from."""
    pid = living_stand_in(folder)
    words = list(arguments)
    if pid is None:
        return words
    if "-sf" not in words:
        return [*words, "-sf", str(pid)]
    at = words.index("-sf") + 1
    return [*words[:at], str(pid), *words[at:]]


def living_stand_in(folder: Path) -> int | None:
    """The process that stands in for the HAProxy of `folder`, if one does."""
    pid = _read_pid(folder / "stand_in.pid")
    return pid if pid is not None and _alive(pid) else None


def stand_by(command: Sequence[str], folder: Path) -> None:
    """Fork the guard of this process, which is about to become HAProxy with `command`."""
    manager = os.getppid()
    # Not a session: in an autogroup of Linux's it would get as much of the cores as all of Ray.
    os.setpgid(0, 0)
    watched = Watched(os.getpid(), manager, _parent(manager), tuple(command), folder)
    watched.last_file.write_text(str(watched.haproxy), encoding="utf-8")
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    # A session of its own: what ends the manager's children must not end this one.
    os.setsid()
    if os.fork():
        os._exit(0)
    try:
        guard(watched)
    except OSError as error:
        print(f"The guard of HAProxy {watched.haproxy} ended: {error}", file=sys.stderr)
    finally:
        os._exit(0)


def guard(watched: Watched) -> None:
    """Wait for a death, and stand in for as long as it is useful."""
    with (
        _watching(watched.haproxy) as haproxy,
        _watching(watched.manager) as manager,
        _watching(watched.raylet) as raylet,
    ):
        _first_ended(haproxy, manager)
        manager_first = manager.ended
        if not haproxy.ended and not _outlives_manager(watched, haproxy, raylet):
            return
        # Serve's shutdown ends both at once, and wants no listener; so does the end of a node.
        unwanted = raylet.ended or (manager.ended and not manager_first)
        if not watched.superseded and not unwanted:
            _stand_in(watched, manager, raylet, manager_first=manager_first)


def _outlives_manager(watched: Watched, haproxy: _Process, raylet: _Process) -> bool:
    """Let HAProxy serve, and end it when nobody wants it; whether it ended by itself."""
    if not watched.superseded:
        watched.stand_in_file.write_text(str(watched.haproxy), encoding="utf-8")
        print(f"The manager of HAProxy {watched.haproxy} ended.", file=sys.stderr)
    end = time.monotonic() + _BRIDGE_SECONDS
    while not haproxy.ended:
        late = time.monotonic() >= end and not watched.superseded
        if late or raylet.ended:
            haproxy.kill()
            return False
        _first_ended(haproxy, raylet, seconds=_POLL_SECONDS)
    return True


def _stand_in(
    watched: Watched, manager: _Process, raylet: _Process, *, manager_first: bool
) -> None:
    """Keep an HAProxy up until it is taken over from or nobody wants it any more."""
    command = _stand_in_command(watched)
    began = seen = time.monotonic()
    end = began + _BRIDGE_SECONDS if manager_first else None
    while not watched.superseded:
        started = time.monotonic()
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        watched.stand_in_file.write_text(str(child.pid), encoding="utf-8")
        print(f"HAProxy {watched.haproxy} ended; {child.pid} stands in.", file=sys.stderr)
        while child.poll() is None:
            now = time.monotonic()
            if end is None and manager.ended:
                end = _end_without_manager(now, manager_seen_seconds=seen - began)
            elif end is None:
                seen = now
            late = end is not None and now >= end and not watched.superseded
            if late or raylet.ended:
                child.kill()
                child.wait()
                return
            time.sleep(_POLL_SECONDS)
        if time.monotonic() - started < _LEAST_LIFE_SECONDS:
            return


def _end_without_manager(now: float, *, manager_seen_seconds: float) -> float:
    """When a stand-in ends whose manager was last seen alive so long after HAProxy's death."""
    shutdown = manager_seen_seconds < _SHUTDOWN_SECONDS
    return now if shutdown else now + _BRIDGE_SECONDS


def _stand_in_command(watched: Watched) -> list[str]:
    """HAProxy's command with a configuration that has no admin socket."""
    words = _first_start(watched.command)
    at = words.index("-f") + 1
    text = Path(words[at]).read_text(encoding="utf-8")
    watched.config_file.write_text(_ADMIN_SOCKET.sub("", text), encoding="utf-8")
    words[at] = str(watched.config_file)
    return words


def _first_start(command: Sequence[str]) -> list[str]:
    """The command without what it was to take over from (`-sf PID...`, `-x SOCKET`)."""
    words, skipping = [], False
    for word in command:
        if word in {"-sf", "-st", "-x"}:
            skipping = True
        elif skipping and word.startswith("-"):
            skipping = False
        if not skipping:
            words.append(word)
    return words


class _Process:
    """A process known by its handle, so that a number that is used again means nothing."""

    def __init__(self, handle: int | None) -> None:
        self.handle = handle

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self.handle is None or bool(select.select([self.handle], [], [], 0)[0])

    def kill(self) -> None:
        """End it, unless it has ended."""
        if self.handle is not None and not self.ended:
            signal.pidfd_send_signal(self.handle, signal.SIGKILL)


@contextlib.contextmanager
def _watching(pid: int) -> Iterator[_Process]:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        yield _Process(None)
        return
    try:
        yield _Process(handle)
    finally:
        os.close(handle)


def _first_ended(*processes: _Process, seconds: float | None = None) -> None:
    """Sleep until one has ended, or for so long."""
    handles = [process.handle for process in processes if process.handle is not None]
    if len(handles) == len(processes):
        select.select(handles, [], [], seconds)


def _read_pid(file: Path) -> int | None:
    try:
        return int(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _parent(pid: int) -> int:
    """The parent of a process, from its status file."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("PPid:"):
            return int(line.split()[1])
    raise ProcessLookupError(pid)
