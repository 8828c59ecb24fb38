"""A real Prometheus for tests: Debian's package, unpacked into the cache, run without root.

`apt-get` keeps its package lists in a folder of this cache, so the machine's own stay untouched
and nothing is installed. A `prometheus` on the PATH is taken where there is one.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from rayserve_par.cli.local.ports import HOST, free_ports
from rayserve_par.settings import load_settings

_APT_LIMIT_SECONDS = 180
_START_LIMIT_SECONDS = 30.0
_STOP_LIMIT_SECONDS = 10.0


class PrometheusMissingError(Exception):
    """There is no Prometheus here and none could be had; the message says why."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One series of an instant query."""

    labels: dict[str, str]
    value: float


def prometheus_binary() -> Path:
    """Find or fetch the `prometheus` program.

    Raises:
        PrometheusMissingError: no apt, no network, or no such package.
    """
    found = shutil.which("prometheus")
    if found is not None:
        return Path(found)
    folder = load_settings().cache_dir / "prometheus"
    binary = folder / "usr" / "bin" / "prometheus"
    if not binary.is_file():
        _unpack_package("prometheus", folder)
    return binary


def promtool_binary() -> Path:
    """The `promtool` program, which comes with Prometheus.

    Raises:
        PrometheusMissingError: as `prometheus_binary`.
    """
    binary = prometheus_binary()
    found = binary.with_name("promtool")
    if not found.is_file():
        raise PrometheusMissingError(f"no promtool beside {binary}")
    return found


def _unpack_package(package: str, folder: Path) -> None:
    for tool in ("apt-get", "dpkg"):
        if shutil.which(tool) is None:
            raise PrometheusMissingError(f"{tool} is missing: not a Debian or Ubuntu system")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{package}-", dir=folder.parent) as work:
        lists, cache = Path(work, "lists", "partial"), Path(work, "cache", "archives", "partial")
        lists.mkdir(parents=True)
        cache.mkdir(parents=True)
        options = [
            "-qq",
            *("-o", f"Dir::State::Lists={lists.parent}"),
            *("-o", f"Dir::Cache={cache.parent.parent}"),
            *("-o", "Debug::NoLocking=1"),
            *("-o", "APT::Sandbox::User="),
            *("-o", "Acquire::http::Timeout=20"),
        ]
        # One broken source fails the update and may leave the package's own source readable.
        updated = _run(["apt-get", *options, "update"], work)
        downloaded = _run(["apt-get", *options, "download", package], work)
        archives = list(Path(work).glob(f"{package}_*.deb"))
        if not archives:
            raise PrometheusMissingError(
                f"apt-get download {package} failed:\n{updated.stdout}{downloaded.stdout}"
            )
        unpacked = Path(work, "unpacked")
        result = _run(["dpkg", "-x", str(archives[0]), str(unpacked)], work)
        if result.returncode != 0:
            raise PrometheusMissingError(f"dpkg -x {archives[0].name} failed:\n{result.stdout}")
        shutil.rmtree(folder, ignore_errors=True)
        unpacked.rename(folder)


def _run(command: list[str], folder: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            cwd=folder,
            check=False,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_APT_LIMIT_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise PrometheusMissingError(
            f"{' '.join(command)} took more than {_APT_LIMIT_SECONDS} s"
        ) from error


class Prometheus:
    """Context manager: a Prometheus that scrapes the targets of `discovery_file`, Ray's own.

    It evaluates the rules of `rule_files`.
    """

    def __init__(
        self,
        binary: Path,
        discovery_file: Path,
        *,
        rule_files: Sequence[Path] = (),
        scrape_interval_seconds: int = 1,
    ) -> None:
        self._binary = binary
        self._discovery_file = discovery_file
        self._rule_files = tuple(rule_files)
        self._scrape_interval_seconds = scrape_interval_seconds
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._url = ""

    def query(self, expr: str) -> list[Sample]:
        """Evaluate `expr` now.

        Raises:
            ValueError: Prometheus refuses the expression.
        """
        answer = httpx.post(f"{self._url}/api/v1/query", data={"query": expr}, timeout=10.0).json()
        if answer["status"] != "success":
            raise ValueError(f"{expr}: {answer['error']}")
        return [
            Sample(series["metric"], float(series["value"][1]))
            for series in answer["data"]["result"]
        ]

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="prometheus-"))
        port = free_ports(1)[0]
        self._url = f"http://{HOST}:{port}"
        # JSON is YAML.
        config = self._folder / "prometheus.json"
        config.write_text(json.dumps(self._config()), encoding="utf-8")
        try:
            with (self._folder / "log").open("wb") as log:
                self._process = subprocess.Popen(
                    [
                        str(self._binary),
                        f"--config.file={config}",
                        f"--storage.tsdb.path={self._folder / 'data'}",
                        f"--web.listen-address={HOST}:{port}",
                    ],
                    cwd=self._folder,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            self._wait_until_ready(self._process)
        except BaseException:
            self._stop()
            raise
        return self

    def _config(self) -> dict[str, Any]:
        interval = f"{self._scrape_interval_seconds}s"
        return {
            "global": {
                "scrape_interval": interval,
                "scrape_timeout": interval,
                "evaluation_interval": interval,
            },
            "rule_files": [str(file) for file in self._rule_files],
            "scrape_configs": [
                {
                    "job_name": "ray",
                    "file_sd_configs": [
                        {"files": [str(self._discovery_file)], "refresh_interval": "5s"}
                    ],
                }
            ],
        }

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + _START_LIMIT_SECONDS
        while time.monotonic() < end and process.poll() is None:
            try:
                if httpx.get(f"{self._url}/-/ready", timeout=1.0).status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                # Not listening yet; the loop's end says so if that stays.
                time.sleep(0.1)
        assert self._folder is not None
        log = (self._folder / "log").read_text(encoding="utf-8", errors="replace")
        raise RuntimeError(f"Prometheus was not ready in {_START_LIMIT_SECONDS} s:\n{log[-2000:]}")

    def _stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_LIMIT_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()
