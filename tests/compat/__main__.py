"""`python -m tests.compat`: start the server, run the suites, write what they found.

Exits with 1 if a suite failed, found nothing or could not be run, with 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from rayserve_par.settings import load_settings
from tests.compat.execution import Execution
from tests.compat.page import page
from tests.compat.results import Outcome, SuiteResult
from tests.compat.server import OurServer, ServerError
from tests.compat.suites import SUITES, Suite, suite_named

_STARTED = time.monotonic()


def main() -> int:
    """Run what the command line asks for; the exit status."""
    parser = argparse.ArgumentParser(prog="tests.compat", description=__doc__)
    names = [suite.name for suite in SUITES]
    parser.add_argument("suites", nargs="*", help=f"those of {', '.join(names)}; all without")
    parser.add_argument("--docs", type=Path, help="write the page to this file")
    parser.add_argument("--url", help="a server of tests/compat/serve.yaml that runs already")
    parser.add_argument("--keep-logs", type=Path, help="copy the suites' logs to this folder")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.suites if suite_named(name) is None]
    if unknown:
        parser.error(f"no suite is called {', '.join(unknown)}; there are {', '.join(names)}")
    wanted = [suite for suite in SUITES if not arguments.suites or suite.name in arguments.suites]
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)
    try:
        results = _run(wanted, arguments.url, arguments.keep_logs)
    except KeyboardInterrupt:
        _say("stopped; no process of it is left")
        return 130
    except ServerError as error:
        _say(str(error))
        return 1
    _show(results)
    if arguments.docs is not None:
        arguments.docs.write_text(page(results, datetime.now(UTC).date()), encoding="utf-8")
        _say(f"written: {arguments.docs}")
    return 0 if all(result.as_expected for result in results) else 1


def _run(wanted: Sequence[Suite], url: str | None, keep_logs: Path | None) -> list[SuiteResult]:
    cache = load_settings().cache_dir / "compat"
    cache.mkdir(parents=True, exist_ok=True)
    results = []
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="compat-")))
        if keep_logs is not None:
            stack.callback(_copy_logs, work, keep_logs)
        if url is None:
            url = stack.enter_context(OurServer(work / "server.log", _say)).url
        execution = Execution(cache, work, url, _say)
        for suite in wanted:
            results.append(execution.run(suite))
            _say(_line(results[-1]))
    return results


def _copy_logs(work: Path, into: Path) -> None:
    into.mkdir(parents=True, exist_ok=True)
    for file in work.glob("*.*"):
        if file.suffix in {".log", ".xml"}:
            shutil.copy(file, into / file.name)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    # What is ending ends in peace.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def _say(text: str) -> None:
    seconds = time.monotonic() - _STARTED
    print(f"[{seconds // 60:3.0f}:{seconds % 60:02.0f}] {text}", flush=True)


def _line(result: SuiteResult) -> str:
    counts = ", ".join(f"{result.count(outcome)} {outcome}" for outcome in Outcome)
    return f"{result.name}: {counts}{f'; {result.broken}' if result.broken else ''}"


def _show(results: Sequence[SuiteResult]) -> None:
    for result in results:
        for case in result.cases:
            if case.outcome is Outcome.FAILED:
                print(f"FAILED {result.name}: {case.name}: {case.reason}")
    for result in results:
        print(("ok     " if result.as_expected else "FAILED ") + _line(result))


if __name__ == "__main__":
    sys.exit(main())
