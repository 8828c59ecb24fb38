"""`rayserve-par events`: every decision, with what it was made from and what came true."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from rayserve_par.cli.status_command import ADDRESS_HELP

if TYPE_CHECKING:
    from rich.console import Console

    from rayserve_par.control.live.told import ToldEvent

_POLL_SECONDS = 1.0


def events(
    app: Annotated[str | None, typer.Argument(help="Application; without it all.")] = None,
    last: Annotated[int, typer.Option(min=1, help="How many at most, the newest.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as they come.")] = False,
    number: Annotated[int | None, typer.Option(help="One decision with all of it.")] = None,
    address: Annotated[str | None, typer.Option(help=ADDRESS_HELP)] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON instead, a line for each.")
    ] = False,
) -> None:
    """Show what was decided, why, from which options, and what came true."""
    from rayserve_par.cli.connect import connect
    from rayserve_par.cli.operate.event_view import render_whole_event
    from rayserve_par.cli.output import result_console

    connect(address)
    console = result_console()
    found = _read(app)
    if number is not None:
        one = with_number(found, number)
        if as_json:
            console.print_json(data=one.as_object())
        else:
            console.print(render_whole_event(one))
        return
    if not found and not follow and not as_json:
        console.print("No decision has been written down yet.")
    _print(console, found[-last:], as_json=as_json)
    if follow:
        try:
            _follow(console, app, found, as_json=as_json)
        except KeyboardInterrupt:
            return


def with_number(found: Sequence[ToldEvent], number: int) -> ToldEvent:
    """The event of this number.

    Raises:
        RefusedError: there is none, or several applications have one.
    """
    from rayserve_par.errors import RefusedError

    those = [one for one in found if one.number == number]
    if len(those) == 1:
        return those[0]
    if those:
        apps = ", ".join(one.app for one in those)
        raise RefusedError(f"{apps} each have an event {number}; name one of them before --number.")
    numbers = [one.number for one in found]
    kept = f"kept are {min(numbers)} to {max(numbers)}" if numbers else "none is kept"
    raise RefusedError(f"There is no event {number}; {kept}.")


def _read(app: str | None) -> tuple[ToldEvent, ...]:
    """All events in order of time.

    Raises:
        RefusedError: the application is not known, or its log cannot be read.
    """
    from rayserve_par.control.live.asking import known_application
    from rayserve_par.control.live.reading import controlled_apps
    from rayserve_par.control.live.store import read_events
    from rayserve_par.control.live.told import told_events
    from rayserve_par.control.serve_client import ServeClient

    known = sorted({*controlled_apps(), *(state.name for state in ServeClient().apps())})
    if app is not None:
        known_application(app, known)
    wanted = known if app is None else [app]
    found = [event for name in wanted for event in told_events(name, read_events(name))]
    return tuple(sorted(found, key=lambda one: (one.seconds, one.app, one.number)))


def _print(console: Console, found: Sequence[ToldEvent], *, as_json: bool) -> None:
    from rayserve_par.cli.operate.event_view import render_event

    for one in found:
        if as_json:
            typer.echo(json.dumps(one.as_object()))
        else:
            console.print(render_event(one))


def _follow(
    console: Console, app: str | None, before: tuple[ToldEvent, ...], *, as_json: bool
) -> None:
    """Print what is new; an event comes a second time when it is known what came true."""
    from rayserve_par.control.live.told import news

    while True:
        time.sleep(_POLL_SECONDS)
        after = _read(app)
        _print(console, news(before, after), as_json=as_json)
        before = after
