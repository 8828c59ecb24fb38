"""`rayserve-par delete`: take applications off a cluster and free their GPUs."""

from __future__ import annotations

import time
from typing import Annotated

import typer
from rich.console import Console

from rayserve_par.cli.status_command import ADDRESS_HELP

_LIMIT_SECONDS = 720.0  # more than the drain_timeout_s of an application


def delete(
    name: Annotated[str | None, typer.Argument(help="Application; without it all.")] = None,
    address: Annotated[str | None, typer.Option(help=ADDRESS_HELP)] = None,
) -> None:
    """Delete one application or all of them, and wait until their GPUs are free."""
    from rayserve_par.cli.connect import connect
    from rayserve_par.cli.stages import stage
    from rayserve_par.control.observe import living_instances
    from rayserve_par.control.serve_client import ServeClient
    from rayserve_par.errors import RefusedError

    console = Console(highlight=False)
    connect(address)
    client = ServeClient()
    names = [app.name for app in client.apps()]
    if name is not None and name not in names:
        raise RefusedError(
            f"No application {name!r} is deployed; there are: {', '.join(names) or 'none'}."
        )
    doomed = names if name is None else [name]
    if not doomed:
        console.print("Nothing is deployed.")
        return
    with stage(console, f"Deleting {', '.join(doomed)}"):
        client.delete(doomed)
        end = time.monotonic() + _LIMIT_SECONDS
        while any(view.record.app in doomed for view in living_instances()) or any(
            app.name in doomed for app in client.apps()
        ):
            if time.monotonic() > end:
                raise RefusedError(
                    f"{doomed} still holds GPUs after {_LIMIT_SECONDS:.0f} s; see\n"
                    "`rayserve-par status`."
                )
            time.sleep(0.5)
