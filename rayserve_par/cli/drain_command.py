"""`rayserve-par drain-node`: move a node's instances elsewhere before it goes."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from rayserve_par.cli.status_command import ADDRESS_HELP


def drain_node(
    node: Annotated[
        str | None,
        typer.Argument(help="Its name or the beginning of its id; without it the one we are on."),
    ] = None,
    address: Annotated[str | None, typer.Option(help=ADDRESS_HELP)] = None,
    timeout: Annotated[
        float, typer.Option(min=1.0, help="Seconds until the node may end, streams or not.")
    ] = 600.0,
) -> None:
    """Give a node nothing new, move its instances elsewhere, and wait until it holds none."""
    import ray

    from rayserve_par.cli.connect import connect
    from rayserve_par.cli.stages import stage
    from rayserve_par.control.drain import drain, find_node
    from rayserve_par.serving.cluster_view import live_nodes

    console = Console(highlight=False)
    connect(address)
    asked = node or ray.get_runtime_context().get_node_id()
    found = find_node(live_nodes(), asked)
    with stage(console, f"Draining {found.name}") as running:
        drain(found, timeout, lambda left: running.note(f"{left} instances left"))
    console.print(f"{found.name} holds no instance any more; it can go.")
