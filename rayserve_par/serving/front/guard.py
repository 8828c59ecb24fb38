"""Watches one HAProxy and stands another in its place when it dies without a successor.

Serve notices a dead HAProxy after three failed questions and then starts another, which leaves the
port without a listener for 6 to 7 s. The guard is a process of its own, forked before the launcher
becomes HAProxy. It sleeps until the kernel tells it of a death:

- HAProxy ended and another was launched since (Serve reloads so): nothing to do.
- HAProxy ended alone: the same command is started again at once. The stand-in answers on the same
  ports and the same admin socket, so that Serve's manager goes on with it. It ends with the
  manager: Serve shuts down by killing HAProxy first and the manager then.
- The manager ended first (killed; Serve starts another): HAProxy is given a moment to end as well,
  and the stand-in serves until the next manager launches its own, at most `_BRIDGE_SECONDS`, and
  never longer than the raylet lives.

Who was launched last stands in `front.pid`, the stand-in in `stand_in.pid`; the launcher tells the
next HAProxy to take over from it (`-sf`), which lets its streams finish.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_BRIDGE_SECONDS = 30.0
_POLL_SECONDS = 0.5
# One that ends sooner cannot serve: its configuration or its ports are the reason.
_LEAST_LIFE_SECONDS = 1.0


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
    def superseded(self) -> bool:
        """Whether another HAProxy was launched since."""
        return _read_pid(self.last_file) != self.haproxy


def with_takeover(arguments: Sequence[str], folder: Path) -> list[str]:
    """HAProxy's arguments, so that a living stand-in of `folder` is taken over from."""
    pid = _read_pid(folder / "stand_in.pid")
    words = list(arguments)
    if pid is None or not _alive(pid):
        return words
    if "-sf" not in words:
        return [*words, "-sf", str(pid)]
    at = words.index("-sf") + 1
    return [*words[:at], str(pid), *words[at:]]


def stand_by(command: Sequence[str], folder: Path) -> None:
    """Fork the guard of this process, which is about to become HAProxy with `command`."""
    manager = os.getppid()
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
    with _watching(watched.haproxy) as haproxy, _watching(watched.manager) as manager:
        _first_ended(haproxy, manager)
        bridging = manager.ended
        _first_ended(haproxy, seconds=_BRIDGE_SECONDS)
        if not haproxy.ended or watched.superseded:
            return
        # Both at once is how a node ends; whoever ended it wants no listener there.
        if not bridging and manager.ended:
            return
        _stand_in(watched, manager, bridging=bridging)


def _stand_in(watched: Watched, manager: _Process, *, bridging: bool) -> None:
    """Keep an HAProxy up until it is taken over from or nobody wants it any more."""
    command = _first_start(watched.command)
    end = time.monotonic() + _BRIDGE_SECONDS
    with _watching(watched.raylet) as raylet:
        while not watched.superseded:
            started = time.monotonic()
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
            watched.stand_in_file.write_text(str(child.pid), encoding="utf-8")
            print(f"HAProxy {watched.haproxy} ended; {child.pid} stands in.", file=sys.stderr)
            while child.poll() is None:
                late = bridging and time.monotonic() > end and not watched.superseded
                if late or raylet.ended or (manager.ended and not bridging):
                    child.kill()
                    child.wait()
                    return
                time.sleep(_POLL_SECONDS)
            if time.monotonic() - started < _LEAST_LIFE_SECONDS:
                return


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
