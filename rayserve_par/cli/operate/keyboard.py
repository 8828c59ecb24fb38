"""Single keys from the terminal, without Enter and without an echo."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol


class Keys(Protocol):
    """Where keys come from."""

    def pressed(self, wait_seconds: float) -> str:
        """The keys pressed within `wait_seconds`, returning at the first; "" if none was."""
        ...


class _Terminal:
    def __init__(self, file: int) -> None:
        self._file = file

    def pressed(self, wait_seconds: float) -> str:
        readable, _, _ = select.select([self._file], [], [], wait_seconds)
        return os.read(self._file, 64).decode(errors="replace") if readable else ""


@contextmanager
def terminal_keys() -> Iterator[Keys]:
    """The terminal's keys; it is as before afterwards, however this ends but by SIGKILL."""
    file = sys.stdin.fileno()
    before = termios.tcgetattr(file)
    old = signal.signal(signal.SIGTERM, _leave)
    tty.setcbreak(file)
    try:
        yield _Terminal(file)
    finally:
        termios.tcsetattr(file, termios.TCSADRAIN, before)
        signal.signal(signal.SIGTERM, old)


def _leave(number: int, frame: FrameType | None) -> None:
    del frame
    raise SystemExit(128 + number)
