"""`rayserve-par control`: pause an application's controller, set its number, or only let it advise.

What is asked is kept on the cluster until it is taken back or its time is over; the controller
obeys it at its next look, and after its own death or Serve's as well.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from rayserve_par.cli.status_command import ADDRESS_HELP

if TYPE_CHECKING:
    from rayserve_par.control.live.asking import Asked, Limits
    from rayserve_par.control.live.overview import AppControl
    from rayserve_par.control.live.records import Override
    from rayserve_par.control.serve_client import AppState

control = typer.Typer(
    no_args_is_help=True, help="Pause the controller of an application, or set its number."
)

_App = Annotated[str, typer.Argument(help="Name of the application.")]
_Address = Annotated[str | None, typer.Option(help=ADDRESS_HELP)]
_For = Annotated[
    str | None, typer.Option("--for", help="How long, as 90s, 30m, 2h; default: until `resume`.")
]
_Note = Annotated[str, typer.Option(help="Why; it shows beside what is asked.")]


class Switch(StrEnum):
    """On or off."""

    ON = "on"
    OFF = "off"


@control.command()
def pause(app: _App, duration: _For = None, note: _Note = "", address: _Address = None) -> None:
    """Leave the number of instances as it is; decisions are only written down."""
    from rayserve_par.control.live.asking import paused

    target = _target(app, address)
    _ask(target, paused(target.control.override, _asked(target, duration, note)))


@control.command()
def resume(app: _App, address: _Address = None) -> None:
    """Take everything back: pause, number and dry run."""
    from rayserve_par.control.live.asking import resumed

    _ask(_target(app, address), resumed())


@control.command("set")
def set_number(
    app: _App,
    instances: Annotated[int, typer.Argument(min=0, help="How many instances.")],
    duration: _For = None,
    note: _Note = "",
    address: _Address = None,
) -> None:
    """Set the number of instances, within the application's limits."""
    from rayserve_par.control.live.asking import numbered, room_note

    target = _target(app, address)
    limits = limits_of(target.state, target.control)
    asked = _asked(target, duration, note)
    _ask(target, numbered(target.control.override, asked, app, instances, limits))
    lacking = room_note(instances, limits)
    if lacking:
        typer.echo(lacking)


@control.command("dry-run")
def dry_run_switch(
    app: _App,
    switch: Annotated[Switch, typer.Argument(help="on or off.")],
    duration: _For = None,
    note: _Note = "",
    address: _Address = None,
) -> None:
    """Only advise: decisions are written down and not carried out."""
    from rayserve_par.control.live.asking import dry_run

    target = _target(app, address)
    asked = _asked(target, duration, note)
    _ask(target, dry_run(target.control.override, asked, on=switch is Switch.ON))


@control.command()
def show(
    app: _App,
    address: _Address = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead.")] = False,
) -> None:
    """Show an application's controller and what is asked of it."""
    from rayserve_par.cli.operate.app_view import AppLines, render_app
    from rayserve_par.cli.output import result_console

    target = _target(app, address)
    console = result_console()
    if as_json:
        console.print_json(data=target.control.as_object(target.now_seconds))
    else:
        console.print(render_app(AppLines(target.state, target.control, target.now_seconds)))


@dataclass(frozen=True, slots=True)
class _Target:
    """The application that a command is about, as it is at the moment of the command."""

    state: AppState
    control: AppControl
    now_seconds: float


def limits_of(state: AppState, control: AppControl) -> Limits:
    """The application's limits: its controller's, else those of its config.

    Raises:
        RefusedError: it has no limits, so nothing scales it.
    """
    from rayserve_par.control.live.asking import Limits
    from rayserve_par.errors import RefusedError

    status = control.status
    if status is not None:
        return Limits(
            least=status.least,
            most=status.most,
            gpus_per_instance=status.gpus_per_instance,
            running=status.ready + status.starting,
            room=status.room,
        )
    found = (state.config.get("args") or {}).get("autoscaling")
    if not found:
        raise RefusedError(
            f"{state.name} has no controller: its config has no `autoscaling`. Add one and deploy "
            "it again; without one the number is the config's num_replicas."
        )
    raise RefusedError(
        f"The controller of {state.name} has not reported yet, so its limits are not known. Try "
        "again in some seconds; `rayserve-par status` shows whether it does."
    )


def _target(app: str, address: str | None) -> _Target:
    """Connect and find the application.

    Raises:
        RefusedError: there is no application of this name.
    """
    from rayserve_par.cli.connect import connect
    from rayserve_par.control.live.asking import known_application
    from rayserve_par.control.live.reading import read_controls
    from rayserve_par.control.serve_client import ServeClient

    connect(address)
    apps = {state.name: state for state in ServeClient().apps()}
    known_application(app, sorted(apps))
    return _Target(apps[app], read_controls([app])[app], time.time())


def _asked(target: _Target, duration: str | None, note: str) -> Asked:
    from rayserve_par.cli.operate.duration import parse_duration
    from rayserve_par.control.live.asking import Asked

    seconds = None if duration is None else parse_duration(duration)
    return Asked(target.now_seconds, seconds, note)


def _ask(target: _Target, override: Override) -> None:
    """Write it down and say what counts now, and whether anybody listens."""
    from rayserve_par.cli.operate.app_view import override_text
    from rayserve_par.cli.operate.figures import age_text
    from rayserve_par.control.live.store import write_override

    name = target.state.name
    write_override(name, override)
    text = override_text(override, target.now_seconds)
    typer.echo(f"{name}: {text or 'nothing is asked; decisions are carried out'}.")
    control = target.control
    if control.status is None:
        typer.echo("No controller has reported for it yet; one obeys this when it does.", err=True)
    elif control.stale(target.now_seconds):
        age = age_text(target.now_seconds - control.status.seconds)
        typer.echo(f"Its controller reported last {age}; it obeys this when it is back.", err=True)
