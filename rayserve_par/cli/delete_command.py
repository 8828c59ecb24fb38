"""`rayserve-par delete`: take applications off a cluster and free their GPUs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from rayserve_par.cli.status_command import ADDRESS_HELP

if TYPE_CHECKING:
    from rayserve_par.control.serve_client import ServeClient

_POLL_SECONDS = 0.5
_LIMIT_SECONDS = 720.0  # more than the drain_timeout_s of an application


def delete(
    name: Annotated[str | None, typer.Argument(help="Application; without it all.")] = None,
    address: Annotated[str | None, typer.Option(help=ADDRESS_HELP)] = None,
) -> None:
    """Delete one application or all of them, and wait until their GPUs are free.

    What was kept of them (decisions, status, what an operator asked) is forgotten then.
    """
    from rayserve_par.cli.connect import connect
    from rayserve_par.cli.stages import stage
    from rayserve_par.control.live.forgetting import forget_gone
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
        while left := _left(client, doomed):
            if time.monotonic() > end:
                break
            time.sleep(_POLL_SECONDS)
        writing = forget_gone(
            [one for one in doomed if one not in left],
            deployed=lambda: [app.name for app in client.apps()],
            wait=time.sleep,
        )
        if left:
            raise RefusedError(
                f"{', '.join(left)}: GPUs are still held after {_LIMIT_SECONDS:.0f} s; see\n"
                "`rayserve-par status`."
            )
    if writing:
        console.print(f"Something still writes the status of {', '.join(writing)}.")


def _left(client: ServeClient, doomed: Sequence[str]) -> list[str]:
    """Those that Serve still knows or that hold GPUs."""
    from rayserve_par.control.observe import living_instances

    held = {view.record.app for view in living_instances()}
    held.update(app.name for app in client.apps())
    return [one for one in doomed if one in held]
