"""`rayserve-par top`: what runs, how it does against its target, and what was decided, live."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from rayserve_par.cli.status_command import ADDRESS_HELP

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rich.console import Console

    from rayserve_par.cli.operate.frame import Look
    from rayserve_par.cli.operate.keyboard import Keys

_JSON_EVENTS = 10
_REDRAW_SECONDS = 0.25
_EXPLAIN_SECONDS = 10.0


def top(
    address: Annotated[str | None, typer.Option(help=ADDRESS_HELP)] = None,
    once: Annotated[bool, typer.Option("--once", help="Print one frame and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one look as JSON.")] = False,
    interval: Annotated[float, typer.Option(min=0.2, help="Seconds between looks.")] = 1.0,
    width: Annotated[
        int | None, typer.Option(min=40, help="Columns of --once; default: the terminal's.")
    ] = None,
) -> None:
    """Watch nodes x GPUs x instances, latency against target, and decisions; q leaves."""
    from rayserve_par.cli.connect import connect
    from rayserve_par.cli.output import result_console

    connect(address)
    console = result_console()
    if width is not None:
        console.width = width
    looker = Looker()
    if as_json:
        _print_json(console, looker.look())
    elif once or not (console.is_terminal and sys.stdin.isatty()):
        _print_once(console, looker.look())
    else:
        _watch(console, looker.look, interval)


class Looker:
    """Looks at the cluster; what applications lack is found anew only now and then."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._missing: Mapping[str, str] | None = None
        self._explained = float("-inf")

    def look(self) -> Look:
        """One look."""
        from rayserve_par.cli.operate.frame import Look
        from rayserve_par.control.live.reading import read_controls
        from rayserve_par.control.observe import observe
        from rayserve_par.control.serve_client import ServeClient

        now = self._clock()
        if now - self._explained > _EXPLAIN_SECONDS:
            self._missing, self._explained = None, now
        seen = observe(ServeClient(), self._missing)
        self._missing = seen.missing
        return Look(seen, read_controls(app.name for app in seen.apps), time.time())


def _print_json(console: Console, look: Look) -> None:
    from rayserve_par.cli.operate.frame import events_object
    from rayserve_par.cli.status_command import as_data

    data = as_data(look.seen, look.controls, look.seconds)
    events = events_object(look, _JSON_EVENTS)
    console.print_json(data={"seconds": look.seconds, **data, "events": events})


def _print_once(console: Console, look: Look) -> None:
    from rayserve_par.cli.operate.frame import Frame, render_frame

    console.print(render_frame(Frame(look, look.seconds, console.width, live=False)))


def _watch(console: Console, look: Callable[[], Look], interval: float) -> None:
    from rayserve_par.cli.operate.keyboard import terminal_keys
    from rayserve_par.cli.operate.looks import Looks

    try:
        with terminal_keys() as keys, Looks(look, interval) as looks:
            show(console, keys, lambda: looks.latest)
    except KeyboardInterrupt:
        return


def show(console: Console, keys: Keys, latest: Callable[[], tuple[Look | None, str]]) -> None:
    """Draw the newest look until q is pressed; the screen before comes back afterwards."""
    from rich.live import Live
    from rich.text import Text

    from rayserve_par.cli.operate.frame import Frame, render_frame

    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            look, error = latest()
            if look is None:
                live.update(Text(error or "Looking at the cluster ... (q leaves)"), refresh=True)
            else:
                width, height = console.size
                frame = Frame(look, time.time(), width, height, error)
                live.update(render_frame(frame), refresh=True)
            if "q" in keys.pressed(_REDRAW_SECONDS).lower():
                return
