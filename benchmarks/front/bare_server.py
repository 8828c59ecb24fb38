"""vLLM's own OpenAI server, without anything of ours: what the front is compared with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

_START_LIMIT_SECONDS = 300.0
_STOP_LIMIT_SECONDS = 15.0
_HOST = "127.0.0.1"


class BareServer:
    """Context manager: a server that answers on `url` inside, no process of it afterwards."""

    def __init__(
        self, arguments: Sequence[str], environment: Mapping[str, str], port: int, log: Path
    ) -> None:
        self.url = f"http://{_HOST}:{port}"
        self.start_seconds = 0.0
        self._arguments = [*arguments, "--host", _HOST, "--port", str(port)]
        self._environment = environment
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of the running server.

        Raises:
            RuntimeError: it does not run.
        """
        if self._process is None:
            raise RuntimeError("The bare vLLM server does not run.")
        return self._process.pid

    def __enter__(self) -> Self:
        started = time.monotonic()
        with self._log.open("wb") as log:
            # A session of its own: Ctrl-C reaches this process alone, which then ends the group.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *self._arguments],
                env={**os.environ, **self._environment},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait_until_healthy(self._process, started + _START_LIMIT_SECONDS)
        except BaseException:
            self._stop()
            raise
        self.start_seconds = time.monotonic() - started
        return self

    def _wait_until_healthy(self, process: subprocess.Popen[bytes], end: float) -> None:
        while time.monotonic() < end and process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        text = self._log.read_text(encoding="utf-8", errors="replace")
        raise RuntimeError(f"The bare vLLM server did not start:\n{text[-3000:]}")

    def _stop(self) -> None:
        if self._process is None:
            return
        self._signal(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(_STOP_LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            pass  # the whole group is killed next, whether or not its leader has gone
        finally:
            self._signal(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    @staticmethod
    def _signal(group: int, number: int) -> None:
        try:
            os.killpg(group, number)
        except ProcessLookupError:
            return

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()
