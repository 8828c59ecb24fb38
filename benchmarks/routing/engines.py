"""Mock engines in processes of their own, and what they say of themselves."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rayserve_par.cli.local.ports import HOST, free_ports
from rayserve_par.serving.mock_engine.times import EngineTimes

MODEL = "mock"
_START_SECONDS = 30.0
_STOP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Engine:
    """A running mock engine."""

    port: int
    pid: int

    def status(self) -> dict[str, Any]:
        """Its status document."""
        with urllib.request.urlopen(f"http://{HOST}:{self.port}/internal/front", timeout=5) as got:
            document: dict[str, Any] = json.load(got)
        return document


@contextmanager
def processes(commands: Sequence[Sequence[str]], log: Path) -> Iterator[list[int]]:
    """Run commands, all output into `log`; inside, their process ids; afterwards none is left."""
    started: list[subprocess.Popen[bytes]] = []
    with log.open("wb") as output:
        try:
            for command in commands:
                started.append(subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT))
            yield [process.pid for process in started]
        finally:
            for process in started:
                process.terminate()
            for process in started:
                try:
                    process.wait(_STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


@contextmanager
def mock_engines(count: int, times: EngineTimes, folder: Path) -> Iterator[list[Engine]]:
    """`count` engines that answer.

    Raises:
        RuntimeError: one does not start.
    """
    ports = free_ports(count)
    command = [sys.executable, "-m", "rayserve_par.serving.mock_engine", "--model", MODEL]
    command += ["--engine", json.dumps(asdict(times))]
    log = folder / "engines.log"
    with processes([[*command, "--port", str(port)] for port in ports], log) as pids:
        for port in ports:
            wait_for(f"http://{HOST}:{port}/health", log)
        yield [Engine(port, pid) for port, pid in zip(ports, pids, strict=True)]


def wait_for(url: str, log: Path) -> None:
    """Wait until `url` answers 200.

    Raises:
        RuntimeError: it does not in time; with what the log says.
    """
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise RuntimeError(f"{url} does not answer:\n{log.read_text(errors='replace')[-3000:]}")
