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

    from rayserve_par.control.live.told import Told

_POLL_SECONDS = 1.0


def events(
    app: Annotated[str | None, typer.Argument(help="Application; without it all.")] = None,
    last: Annotated[int, typer.Option(min=1, help="How many at most, the newest.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as they come.")] = False,
    number: Annotated[
        str | None,
        typer.Option(help="One decision with all of it: 12, or r12 of the re-planner."),
    ] = None,
    address: Annotated[str | None, typer.Option(help=ADDRESS_HELP)] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON instead, a line for each.")
    ] = False,
) -> None:
    """Show what was decided, why, from which options, and what came true.

    Decisions of the scaling policy (#12) and of the re-planner (#r12) stand in one order of time;
    each counts its own.
    """
    from rayserve_par.cli.connect import connect
    from rayserve_par.cli.operate.event_view import render_whole_event
    from rayserve_par.cli.output import result_console
    from rayserve_par.control.live.told import finite

    connect(address)
    console = result_console()
    found = _read(app)
    if number is not None:
        one = with_name(found, number)
        if as_json:
            console.print_json(data=finite(one.as_object()))
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


def with_name(found: Sequence[Told], name: str) -> Told:
    """The event of this name, such as "12" or "r12"; a "#" before it is passed by.

    Raises:
        RefusedError: it is no name, there is none, or several applications have one.
    """
    from rayserve_par.errors import RefusedError

    name = name.removeprefix("#").lower()
    number = name.removeprefix("r")
    if not number.isdecimal():
        raise RefusedError(
            f"{name!r} is no decision: give 12 for the scaling policy's, r12 for the re-planner's."
        )
    name = name.removesuffix(number) + str(int(number))
    those = [one for one in found if one.name == name]
    if len(those) == 1:
        return those[0]
    if those:
        apps = ", ".join(one.app for one in those)
        raise RefusedError(f"{apps} each have an event {name}; name one of them before --number.")
    raise RefusedError(f"There is no event {name}; {_kept(found)}.")


def _kept(found: Sequence[Told]) -> str:
    spans = []
    for sign in ("", "r"):
        numbers = [one.number for one in found if one.name == f"{sign}{one.number}"]
        if numbers:
            spans.append(f"{sign}{min(numbers)} to {sign}{max(numbers)}")
    return f"kept are {' and '.join(spans)}" if spans else "none is kept"


def _read(app: str | None) -> tuple[Told, ...]:
    """All events in order of time.

    Raises:
        RefusedError: the application is not known, or a log of it cannot be read.
    """
    from rayserve_par.control.live.asking import known_application
    from rayserve_par.control.live.reading import read_decisions
    from rayserve_par.control.live.store import decided_apps
    from rayserve_par.control.serve_client import ServeClient

    known = sorted({*decided_apps(), *(state.name for state in ServeClient().apps())})
    if app is not None:
        known_application(app, known)
    return read_decisions(known if app is None else [app])


def _print(console: Console, found: Sequence[Told], *, as_json: bool) -> None:
    from rayserve_par.cli.operate.event_view import render_event
    from rayserve_par.control.live.told import finite

    for one in found:
        if as_json:
            typer.echo(json.dumps(finite(one.as_object())))
        else:
            console.print(render_event(one))


def _follow(console: Console, app: str | None, before: tuple[Told, ...], *, as_json: bool) -> None:
    """Print what is new; an event comes a second time when it is known what came true."""
    from rayserve_par.control.live.told import news

    while True:
        time.sleep(_POLL_SECONDS)
        after = _read(app)
        _print(console, news(before, after), as_json=as_json)
        before = after
