"""What Serve and HAProxy say of an application's instances, twice a second, for a test to print."""

from __future__ import annotations

import csv
import io
import threading
import time
from pathlib import Path

from ray.exceptions import RayError

from benchmarks.reliability.haproxy import ask_admin
from tests.e2e.conftest import APP
from tests.e2e.controlled import Controlled

_EVERY_SECONDS = 0.5
_ID_LETTERS = 4


class Timeline:
    """Lines of what has changed, by seconds since the block began; `note` adds one."""

    def __init__(self, controlled: Controlled) -> None:
        self._controlled = controlled
        self._begun = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(f"{time.monotonic() - self._begun:6.1f} {text}")

    def _watch(self) -> None:
        last = ""
        while not self._over.wait(_EVERY_SECONDS):
            seen = f"Serve: {self._serve()} | HAProxy: {self._haproxy()}"
            if seen != last:
                self.note(seen)
                last = seen

    def _serve(self) -> str:
        try:
            replicas = self._controlled.replicas(APP)
        except RayError as error:
            return type(error).__name__
        return _joined(f"{_short(one['replica_id'])} {one['state']}" for one in replicas)

    def _haproxy(self) -> str:
        session = self._controlled.cluster.session
        assert session is not None, "the cluster runs"
        [socket] = Path(session.folder, "haproxy").glob("*/admin.sock")
        try:
            rows = csv.DictReader(io.StringIO(ask_admin(socket, "show stat").removeprefix("# ")))
            return _joined(
                f"{_short(row['svname'])} {row['status']}"
                for row in rows
                if row["pxname"] == f"http-{APP}" and row["svname"] not in {"FRONTEND", "BACKEND"}
            )
        except OSError as error:
            return type(error).__name__

    def __enter__(self) -> Timeline:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        print(*self.lines, sep="\n")


def _short(name: str) -> str:
    """The replica's id ends the name of its server."""
    return name[-_ID_LETTERS:]


def _joined(words: object) -> str:
    return ", ".join(sorted(words)) or "nothing"  # type: ignore[call-overload]
