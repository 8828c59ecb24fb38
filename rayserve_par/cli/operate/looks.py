"""Looks at the cluster again and again in a thread, so that the view lives on when a look hangs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

_Seen = TypeVar("_Seen")


class Looks(Generic[_Seen]):
    """The newest result of `look`, and why the latest one failed, if it did."""

    def __init__(self, look: Callable[[], _Seen], period_seconds: float) -> None:
        self._look = look
        self._period_seconds = period_seconds
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._seen: _Seen | None = None
        self._error = ""
        self._thread = threading.Thread(target=self._run, daemon=True, name="looks")

    def __enter__(self) -> Looks[_Seen]:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # The thread may hang in a call to the cluster; it is a daemon and ends with the process.
        self._stop.set()

    @property
    def latest(self) -> tuple[_Seen | None, str]:
        """The newest result, None before the first; and the latest look's error or ""."""
        with self._lock:
            return self._seen, self._error

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                seen = self._look()
            except Exception as error:  # whatever Ray raises is shown, and tried again
                with self._lock:
                    self._error = f"{type(error).__name__}: {str(error).strip()[:200]}"
            else:
                with self._lock:
                    self._seen, self._error = seen, ""
            self._stop.wait(self._period_seconds)
