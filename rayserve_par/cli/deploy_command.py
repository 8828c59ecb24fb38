"""`rayserve-par deploy`: plan on a running Ray cluster, check it, and deploy through Ray Serve."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from rayserve_par.cli.status_command import ADDRESS_HELP

if TYPE_CHECKING:
    from rayserve_par.control.config_file import ConfiguredApp


_FIRST_HAS_ALL = "As they are, the first one that has a living instance gets all requests."


def deploy(
    config: Annotated[Path, typer.Argument(help="Serve config file.")],
    address: Annotated[str | None, typer.Option(help=ADDRESS_HELP)] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Delete applications that the config does not name.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Plan and check, deploy nothing.")
    ] = False,
) -> None:
    """Deploy a config to an existing Ray cluster and wait until its models answer."""
    from rayserve_par.cli.bring_up import (
        DeploymentFailedError,
        bring_up,
        on_loopback,
        print_failure,
        wait_for_front,
    )
    from rayserve_par.cli.connect import connect
    from rayserve_par.control.config_file import conflicts_with_deployed, read_config
    from rayserve_par.control.live import store
    from rayserve_par.control.replanning.document import keeping_choices, number_asked
    from rayserve_par.control.serve_client import ServeClient

    console = Console(highlight=False)
    read = read_config(config)
    connection = connect(address)
    client = ServeClient()
    for app in read.apps:
        _check(console, app)
    deployed = {one.name: one.config for one in client.apps()}
    for conflict in () if replace else conflicts_with_deployed(read.apps, deployed):
        console.print(f"Note: {conflict}\n{_FIRST_HAS_ALL}", style="yellow", markup=False)
    if dry_run:
        console.print("Nothing was deployed (--dry-run).")
        return
    asked = {
        name: number_asked(store.read_number(name), entry.get("args") or {})
        for name, entry in deployed.items()
    }
    kept = keeping_choices(read.document, deployed, asked)
    for name, number in kept.numbers.items():
        store.write_number(name, number)
        wanted, before = number["instances"], asked[name] or number["args"].get("num_replicas", 1)
        if wanted != before:
            console.print(f"{name}: {wanted} instances instead of {before}; none is restarted.")
    document = kept.document if replace else client.beside_deployed(kept.document)
    if connection.http_port is not None:
        document = on_loopback(document, connection.http_port)
    try:
        bring_up(console, client, read, document)
        port = (document.get("http_options") or {}).get("port", 8000)
        url = f"http://{connection.gcs_address.rsplit(':', 1)[0]}:{port}"
        for app in read.apps:
            wait_for_front(console, url, app)
            console.print(f"{app.args.public_name} answers at {url}{app.route_prefix}")
    except DeploymentFailedError as error:
        print_failure(error)
        sys.exit(1)


def _check(console: Console, app: ConfiguredApp) -> None:
    from rayserve_par.cli.plan_view import render_plan
    from rayserve_par.cli.stages import stage
    from rayserve_par.control.live.scaling import scaling_for
    from rayserve_par.control.preflight import check_software, software_by_node, versions_here
    from rayserve_par.serving.app import plan_for, replica_spec, wanted_replicas
    from rayserve_par.serving.cluster_view import live_cluster, live_nodes
    from rayserve_par.serving.model_store.locate import locate_model
    from rayserve_par.serving.room import check_room
    from rayserve_par.serving.vllm_bridge.argument_names import check_argument_names

    check_argument_names(app.args.engine)
    model = locate_model(app.args.model)
    made = plan_for(app.args, model, live_cluster())
    console.print(render_plan(made))
    scaling_for(app.args, model, made)
    spec = replica_spec(app.args, model, made)
    check_room(spec.placement, made, wanted_replicas(app.args, made), app.args.public_name)
    with stage(console, "Checking the software of every GPU node"):
        check_software(software_by_node(tuple(live_nodes()), app.runtime_env), versions_here())
