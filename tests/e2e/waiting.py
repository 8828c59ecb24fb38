"""Waiting for something real to happen, with a limit and a word about what was last seen."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Seen = TypeVar("Seen")


def wait_until(look: Callable[[], Seen], seconds: float, every: float = 0.25) -> Seen:
    """Call `look` until what it returns is true; returns that.

    Raises:
        AssertionError: it was not true within `seconds`.
    """
    end = time.monotonic() + seconds
    while True:
        seen = look()
        if seen:
            return seen
        assert time.monotonic() < end, f"not so within {seconds:.0f} s; last seen: {seen!r}"
        time.sleep(every)
