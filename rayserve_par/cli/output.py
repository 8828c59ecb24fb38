"""The console that commands print results to."""

from __future__ import annotations

from rich.console import Console

_WIDTH_OF_A_FILE = 100


def result_console() -> Console:
    """Standard output; 100 columns wide where it is no terminal."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH_OF_A_FILE
    return console
