"""The command `rayserve-par`. Each command's module imports what is heavy inside its function."""

from __future__ import annotations

import sys

import typer
from rich.console import Console

from rayserve_par import __version__
from rayserve_par.cli.calibrate_command import calibrate
from rayserve_par.cli.control_command import control
from rayserve_par.cli.delete_command import delete
from rayserve_par.cli.deploy_command import deploy
from rayserve_par.cli.drain_command import drain_node
from rayserve_par.cli.evaluate_command import evaluate
from rayserve_par.cli.events_command import events
from rayserve_par.cli.keys_command import keys
from rayserve_par.cli.manifest_command import manifest
from rayserve_par.cli.models_command import models
from rayserve_par.cli.plan_command import plan
from rayserve_par.cli.replan_command import replan
from rayserve_par.cli.serve_command import serve
from rayserve_par.cli.simulate_command import simulate
from rayserve_par.cli.status_command import status
from rayserve_par.cli.top_command import top
from rayserve_par.cli.whatif_command import whatif
from rayserve_par.errors import RefusedError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Size, plan, place and serve large language models on Ray clusters.",
)
for command in (
    plan,
    whatif,
    simulate,
    serve,
    deploy,
    status,
    top,
    events,
    replan,
    delete,
    drain_node,
    models,
    manifest,
    calibrate,
    evaluate,
):
    app.command()(command)
app.add_typer(control, name="control")
app.add_typer(keys, name="keys")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version."
    ),
) -> None:
    del version


def main() -> None:
    """Run the command line; a refusal prints its message and exits with code 2."""
    try:
        app()
    except RefusedError as refusal:
        Console(stderr=True, highlight=False).print(
            f"Refused: {refusal}", style="red", markup=False
        )
        sys.exit(2)


if __name__ == "__main__":
    main()
