"""Ends an engine process whose replica is gone, however it went."""

from __future__ import annotations

import multiprocessing
import os
import threading


def end_with_parent() -> None:
    """End this process with the one that started it; nothing where Ray itself started it."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return  # an actor of its own (a DP rank): Ray ends it with its owner

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True, name="end-with-parent").start()
