"""A replica that is sent SIGTERM finishes its streams first.

Ray's workers end at once on SIGTERM. Python lets only the main thread set a handler, and the code
of a replica never runs there, so `install` is given to Ray as the worker process's setup hook: it
runs before Ray sets its own handler (`Worker.main_loop`, release 2.60) and puts ours before it.
Until `drain_on_sigterm` was called, and for every further signal, Ray's decides as before.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

# Ray reads it in `default_worker.py`; the value is an import path.
SETUP_HOOK_ENV = {"__RAY_WORKER_PROCESS_SETUP_HOOK_ENV_VAR": "rayserve_par.serving.sigterm.install"}
Handler = Callable[[int, FrameType | None], Any]

_drains: list[Callable[[], None]] = []


def drain_on_sigterm(drain: Callable[[], None]) -> None:
    """Call `drain()` from a thread of its own at the first SIGTERM; it ends the process itself."""
    _drains.append(drain)


def install() -> None:
    """Put our handler in front of the one that Ray is about to set; called once per process."""
    from ray._private import utils

    set_handler = utils.set_sigterm_handler

    def set_sigterm_handler(handler: Handler) -> None:
        set_handler(in_front_of(handler))

    utils.set_sigterm_handler = set_sigterm_handler


def in_front_of(handler: Handler) -> Handler:
    """A handler that starts what is to be drained, once, and otherwise calls `handler`."""

    def on_sigterm(number: int, frame: FrameType | None) -> None:
        if not _drains:
            handler(number, frame)
            return
        threading.Thread(target=_drains.pop(), name="drain-on-sigterm", daemon=True).start()

    return on_sigterm
