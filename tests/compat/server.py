"""The server under test: `rayserve-par serve tests/compat/serve.yaml`, with API keys."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from rayserve_par.cli.local.ports import free_ports
from tests.compat.processes import end_group, tail

CONFIG = Path(__file__).with_name("serve.yaml")
# keys.yaml holds the hashes of these.
KEYS_FILE = Path(__file__).with_name("keys.yaml")
KEY, LIMITED_KEY, TINY_ONLY_KEY = "sk-compat-tests", "sk-compat-limited", "sk-compat-tiny-only"
MODEL, ALIAS, TINY = "smollm2-135m-instruct", "gpt-4o-mini", "tiny-llama"
TINY_PREFIX = "/tiny"
_START_SECONDS = 900.0
_STOP_SECONDS = 60.0


class ServerError(Exception):
    """The server did not start, or answers no more."""


class OurServer:
    """Context manager: the server answers on `url` inside, no process of it afterwards."""

    def __init__(self, log: Path, say: Callable[[str], None]) -> None:
        self.log = log
        self.url = f"http://127.0.0.1:{free_ports(1)[0]}"
        self._say = say
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "rayserve_par.cli.main", "serve", str(CONFIG)]
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                [*command, "--port", self.url.rsplit(":", 1)[1]],
                env={**os.environ, "RAYSERVE_PAR_KEYS_FILE": str(KEYS_FILE)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait(self._process)
        except BaseException:
            self._stop()
            raise
        return self

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        started = time.monotonic()
        said = 0.0
        while (seconds := time.monotonic() - started) < _START_SECONDS:
            if process.poll() is not None:
                raise ServerError(f"The server ended at its start:\n{tail(self.log)}")
            if {MODEL, ALIAS, TINY} <= models_of(self.url):
                self._say(f"server: {self.url} after {seconds:.0f} s")
                return
            if seconds - said >= 15:
                said = seconds
                self._say(f"server: starting, {seconds:.0f} s")
            time.sleep(1)
        raise ServerError(f"No answer within {_START_SECONDS:.0f} s:\n{tail(self.log)}")

    def _stop(self) -> None:
        if self._process is not None:
            end_group(self._process, _STOP_SECONDS)
            self._process = None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()


def models_of(url: str) -> set[str]:
    """The models that answer on `url`; none while nothing does."""
    request = urllib.request.Request(f"{url}/v1/models", headers={"Authorization": f"Bearer {KEY}"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return {model["id"] for model in json.load(answer)["data"]}
    except (urllib.error.URLError, OSError, ValueError, KeyError):
        return set()
