"""Child processes that end with their group: at their limit, at an error, at Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_LOOK_SECONDS = 0.5
_STOP_SECONDS = 10.0
# What the project's own environment would change in a client's.
_NOT_INHERITED = ("PYTHONPATH", "VIRTUAL_ENV", "PYTEST_ADDOPTS")


def run_to_end(
    command: Sequence[str | Path],
    environment: Mapping[str, str],
    folder: Path,
    log: Path,
    limit_seconds: float,
    watch: Callable[[float], None] = lambda _seconds: None,
) -> int | None:
    """Run a command with its output in `log`; its exit status, or None if it passed the limit.

    `watch` is called now and then with the seconds since the start. No process of the command's
    group is left when this returns or raises.
    """
    inherited = {key: value for key, value in os.environ.items() if key not in _NOT_INHERITED}
    started = time.monotonic()
    with log.open("ab") as output:
        process = subprocess.Popen(
            [str(part) for part in command],
            env={**inherited, **environment},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            while True:
                try:
                    return process.wait(_LOOK_SECONDS)
                except subprocess.TimeoutExpired:
                    seconds = time.monotonic() - started
                    if seconds > limit_seconds:
                        return None
                    watch(seconds)
        finally:
            end_group(process, _STOP_SECONDS)


def end_group(process: subprocess.Popen[bytes], seconds: float) -> None:
    """SIGTERM to the group's leader, then SIGKILL to what is left of the group."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):  # killed with its group next
            process.wait(seconds)
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def tail(log: Path, characters: int = 1500) -> str:
    """The end of a log."""
    return log.read_text(encoding="utf-8", errors="replace")[-characters:].strip()
