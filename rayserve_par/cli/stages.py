"""Shows what a long command is doing: each stage named, with a spinner and the elapsed time.

On a terminal the running stage is one live line; elsewhere each stage prints a line when it starts
and one when it ends, so that logs stay readable.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn


class Stage:
    """A running stage; `note` adds what it is waiting for right now."""

    def __init__(self, name: str, progress: Progress | None, task: TaskID | None) -> None:
        self._name = name
        self._progress = progress
        self._task = task

    def note(self, text: str) -> None:
        """Show `text` behind the stage's name."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, description=f"{self._name}: {text}")


@contextmanager
def stage(console: Console, name: str) -> Iterator[Stage]:
    """Run the body as the stage `name`; a failure is marked and passed on."""
    started = time.monotonic()
    try:
        if console.is_terminal:
            columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
            with Progress(*columns, console=console, transient=True) as progress:
                yield Stage(name, progress, progress.add_task(name, total=None))
        else:
            console.print(f"... {name}", highlight=False)
            yield Stage(name, None, None)
    except BaseException:
        console.print(_line("x", name, started), highlight=False, style="red")
        raise
    console.print(_line("+", name, started), highlight=False, style="green")


def _line(mark: str, name: str, started: float) -> str:
    return f"{mark} {name} ({time.monotonic() - started:.1f} s)"
