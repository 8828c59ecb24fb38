"""`rayserve-par serve`: a local cluster, the plan, the deployment, until Ctrl-C."""

from __future__ import annotations

import signal
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from types import FrameType

    from rayserve_par.cli.local.cluster import LocalCluster
    from rayserve_par.cli.local.session import Session
    from rayserve_par.control.config_file import ServeConfig
    from rayserve_par.control.serve_client import ServeClient

DEFAULT_CONFIG = Path("configs/smollm2-pp2.yaml")
_WATCH_SECONDS = 2.0
_DRAIN_POLL_SECONDS = 0.2


def serve(
    config: Annotated[Path, typer.Argument(help="Serve config file.")] = DEFAULT_CONFIG,
    port: Annotated[int, typer.Option(help="HTTP port on 127.0.0.1.")] = 8000,
    nodes: Annotated[int, typer.Option(min=1, help="Ray worker nodes to start.")] = 2,
    gpus_per_node: Annotated[int, typer.Option(min=1, help="Logical GPUs of each node.")] = 2,
) -> None:
    """Serve a config on a Ray cluster of logical GPUs on this machine, until Ctrl-C."""
    from rayserve_par.cli.bring_up import DeploymentFailedError, print_failure
    from rayserve_par.cli.local.cluster import LocalCluster
    from rayserve_par.cli.local.ports import check_port
    from rayserve_par.control.config_file import read_config

    console = Console(highlight=False)
    # SIGINT too: Python leaves it ignored where a shell started it in the background.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _terminate)
    try:
        read = read_config(config)
        check_port(port)
        _check_engine(read)
        _prepare_and_plan(console, read, f"{nodes}x{gpus_per_node}xlogical-cpu")
        cluster = LocalCluster(http_port=port, nodes=nodes, gpus_per_node=gpus_per_node)
        try:
            _run(console, cluster, read)
        finally:
            _stop(console, cluster)
    except KeyboardInterrupt:
        console.print("Stopped; no process, port or folder of it is left.")
    except DeploymentFailedError as error:
        print_failure(error)
        sys.exit(1)


class TerminatedError(KeyboardInterrupt):
    """SIGTERM: what has begun is finished first."""


def _terminate(number: int, _frame: FrameType | None) -> None:
    raise TerminatedError if number == signal.SIGTERM else KeyboardInterrupt


def _check_engine(config: ServeConfig) -> None:
    from rayserve_par.serving.vllm_bridge.argument_names import check_argument_names
    from rayserve_par.serving.vllm_bridge.versions import check_vllm_version, installed_vllm

    check_vllm_version(installed_vllm())
    for app in config.apps:
        check_argument_names(app.args.engine)


def _prepare_and_plan(console: Console, config: ServeConfig, hardware: str) -> None:
    from rayserve_par.cli.plan_view import render_plan
    from rayserve_par.cli.stages import stage
    from rayserve_par.control.live.scaling import check_holding, scaling_for
    from rayserve_par.hardware.cluster import parse_cluster
    from rayserve_par.serving.app import plan_for
    from rayserve_par.serving.model_store.builtin import BUILTIN_MODELS, is_prepared
    from rayserve_par.serving.model_store.locate import locate_model

    for app in config.apps:
        name = app.args.model
        if name in BUILTIN_MODELS and not is_prepared(name):
            with stage(console, f"Preparing {name} (once)"):
                model = locate_model(name)
        else:
            model = locate_model(name)
        made = plan_for(app.args, model, parse_cluster(hardware))
        console.print(render_plan(made))
        check_holding(app.args)
        scaling_for(app.args, model, made)


def _run(console: Console, cluster: LocalCluster, config: ServeConfig) -> None:
    from rayserve_par.cli.bring_up import bring_up, on_loopback, wait_for_front
    from rayserve_par.cli.stages import stage
    from rayserve_par.control.serve_client import ServeClient

    document = on_loopback(config.document, cluster.http_port)
    with stage(console, f"Starting a local Ray cluster ({cluster.nodes} GPU nodes)"):
        _start_with_serve(cluster, document)
    client = ServeClient()
    bring_up(console, client, config, document)
    url = f"http://127.0.0.1:{cluster.http_port}"
    for app in config.apps:
        wait_for_front(console, url, app)
        invitation = _invitation(url, app.args.public_name)
        console.print(invitation, soft_wrap=True, markup=False)
    _show_placement(console, client)
    with stage(console, "Starting Ray's dashboard"):
        cluster.start_dashboard()
    console.print("Serving until Ctrl-C.")
    try:
        _watch(console, client)
    except TerminatedError:
        _drain(console, client, config)
        raise


def _start_with_serve(cluster: LocalCluster, document: dict[str, Any]) -> None:
    """Start the cluster, and Serve on its head while the nodes are still coming."""
    from rayserve_par.cli.connect import connect
    from rayserve_par.control.serve_client import ServeClient

    def start_serve(session: Session) -> None:
        connect(session.gcs_address)
        ServeClient().start(document)

    with ThreadPoolExecutor(max_workers=1) as pool:
        serving: list[Future[None]] = []
        cluster.start(on_head=lambda session: serving.append(pool.submit(start_serve, session)))
        serving[0].result()
    signal.signal(signal.SIGTERM, _terminate)  # Ray has set its own


def _invitation(url: str, model: str) -> str:
    return (
        f"\nServing {model}. Try:\n\n"
        f"curl {url}/v1/chat/completions \\\n"
        "  -H 'Content-Type: application/json' \\\n"
        f'  -d \'{{"model": "{model}", "messages": '
        '[{"role": "user", "content": "What is the capital of France?"}]}\'\n'
    )


def _show_placement(console: Console, client: ServeClient) -> None:
    from rayserve_par.control.observe import observe

    console.print(observe(client).picture, markup=False)


def _watch(console: Console, client: ServeClient) -> None:
    """Report every change of an application's state until a signal comes."""
    last: dict[str, Any] = {}
    while True:
        time.sleep(_WATCH_SECONDS)
        for app in client.apps():
            if last.setdefault(app.name, app.status) != app.status:
                console.print(f"{app.name}: {last[app.name]} -> {app.status}")
                last[app.name] = app.status


def _drain(console: Console, client: ServeClient, config: ServeConfig) -> None:
    """Let requests under way finish, within their applications' drain_timeout_s."""
    from rayserve_par.cli.stages import stage

    names = [app.name for app in config.apps]
    end = time.monotonic() + max(app.args.drain_timeout_s for app in config.apps)
    with stage(console, "Letting requests finish (Ctrl-C stops at once)"):
        client.delete(names)
        while any(app.name in names for app in client.apps()) and time.monotonic() < end:
            time.sleep(_DRAIN_POLL_SECONDS)


def _stop(console: Console, cluster: LocalCluster) -> None:
    from rayserve_par.cli.stages import stage

    if cluster.session is None:
        return
    # A second Ctrl-C must not interrupt the cleaning up.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with stage(console, "Stopping"):
        cluster.stop()
