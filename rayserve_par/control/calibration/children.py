"""Runs a function in child processes, one per rank, and leaves none of them behind.

Each rank leads a process group of its own, so that what it starts (an engine's workers) ends with
it: after the work, at the time limit, and on Ctrl-C. Its output goes to a file, whose end is shown
if it fails.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

# A child that is told to end has this long before it is made to.
_GRACE_SECONDS = 10.0
_POLL_SECONDS = 0.2
_LOG_LINES = 30

Work = Callable[..., Any]


class MeasurementFailedError(RuntimeError):
    """A measurement that ended without a result; `details` is the end of its output."""

    def __init__(self, cause: str, details: str = "") -> None:
        super().__init__(cause)
        self.details = details


def run_ranks(
    name: str,
    work: Work,
    ranks: int,
    arguments: tuple[Any, ...],
    *,
    limit_seconds: float,
    environment: Mapping[str, str] | None = None,
) -> Any:
    """Run `work(rank, folder, *arguments)` on `ranks` processes; return rank 0's result.

    `folder` is one that all ranks share. The result must be what JSON can carry.

    Raises:
        MeasurementFailedError: a rank failed, or the time limit passed.
    """
    from torch import multiprocessing

    with tempfile.TemporaryDirectory(prefix="rayserve-par-calibrate-") as folder:
        context = multiprocessing.spawn(
            _run_rank,
            args=(work, folder, dict(environment or {}), arguments),
            nprocs=ranks,
            join=False,
        )
        try:
            _wait(name, context, folder, limit_seconds)
        finally:
            _end(context.processes)
        return json.loads(_result_file(folder).read_text(encoding="utf-8"))


def _result_file(folder: str) -> Path:
    return Path(folder) / "result.json"


def _log_file(folder: str, rank: int) -> Path:
    return Path(folder) / f"rank-{rank}.log"


def _run_rank(
    rank: int,
    work: Work,
    folder: str,
    environment: dict[str, str],
    arguments: tuple[Any, ...],
) -> None:
    """What a child does."""
    os.setsid()
    os.environ.update(environment)
    log = os.open(_log_file(folder, rank), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    result = work(rank, folder, *arguments)
    if rank == 0:
        _result_file(folder).write_text(json.dumps(result), encoding="utf-8")


def _wait(name: str, context: Any, folder: str, limit_seconds: float) -> None:
    from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

    end = time.monotonic() + limit_seconds
    try:
        while not context.join(timeout=_POLL_SECONDS):
            if time.monotonic() > end:
                raise MeasurementFailedError(
                    f"{name} did not end within {limit_seconds:.0f} s and was stopped.",
                    _last_lines(folder, 0),
                )
    except ProcessRaisedException as error:
        raise MeasurementFailedError(
            f"{name} failed on rank {error.error_index}: {_cause(str(error))}",
            _last_lines(folder, error.error_index),
        ) from None
    except ProcessExitedException as error:
        raise MeasurementFailedError(
            f"{name}: the process of rank {error.error_index} ended with code {error.exit_code} "
            "(minus a signal's number; -9 is often a lack of memory).",
            _last_lines(folder, error.error_index),
        ) from None


def _cause(traceback: str) -> str:
    """The error at the end of a traceback, all of its lines."""
    lines = traceback.strip().splitlines()
    frames = [number for number, line in enumerate(lines) if line.startswith("  File ")]
    after = frames[-1] + 1 if frames else 0
    starts = (n for n in range(after, len(lines)) if lines[n] and not lines[n].startswith(" "))
    return "\n".join(lines[next(starts, len(lines) - 1) :])


def _last_lines(folder: str, rank: int) -> str:
    file = _log_file(folder, rank)
    if not file.is_file():
        return ""
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(lines[-_LOG_LINES:])


def _end(processes: Iterable[Any]) -> None:
    """End the ranks, and then whatever they started and did not end themselves."""
    for process in processes:
        process.terminate()  # the group exists only once the child leads it
        _signal_group(process.pid, signal.SIGTERM)
    end = time.monotonic() + _GRACE_SECONDS
    for process in processes:
        process.join(max(0.0, end - time.monotonic()))
    for process in processes:
        process.kill()
        _signal_group(process.pid, signal.SIGKILL)
        process.join()


def _signal_group(leader: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, number)
