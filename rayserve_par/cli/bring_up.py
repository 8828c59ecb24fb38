"""Deploys a config and waits until its models answer over HTTP; shared by `serve` and `deploy`."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from rayserve_par.cli.stages import Stage, stage
from rayserve_par.control.config_file import ConfiguredApp, ServeConfig
from rayserve_par.control.serve_client import AppState, ServeClient
from rayserve_par.errors import RefusedError

_FRONT_LIMIT_SECONDS = 60.0
_REFUSAL_MARK = "rayserve_par.errors.RefusedError: "


class DeploymentFailedError(RuntimeError):
    """An application could not be brought up: the cause, and all that Serve says in `details`."""

    def __init__(self, cause: str, details: str = "") -> None:
        super().__init__(cause)
        self.details = details


def print_failure(error: DeploymentFailedError) -> None:
    """Print what Serve says, and the cause last, where one looks."""
    console = Console(stderr=True, highlight=False)
    if error.details:
        console.print(error.details, style="dim", markup=False, soft_wrap=True)
    console.print(f"Failed: {error}", style="red", markup=False, soft_wrap=True)


def on_loopback(document: Mapping[str, Any], port: int) -> dict[str, Any]:
    """`document` as a local cluster serves it: one front, on this machine's loopback address."""
    http = {**(document.get("http_options") or {}), "host": "127.0.0.1", "port": port}
    return {**document, "proxy_location": "HeadOnly", "http_options": http}


def bring_up(
    console: Console,
    client: ServeClient,
    config: ServeConfig,
    document: Mapping[str, Any],
) -> None:
    """Deploy `document` and wait until every application of ours runs.

    Raises:
        RefusedError: the application builder refused it on the cluster.
        DeploymentFailedError: an instance failed to start.
    """
    with stage(console, "Telling Ray Serve"):
        client.deploy(document)
    for app in config.apps:
        with stage(console, f"Starting the instances of {app.name}") as running:
            _wait_for_app(client, app, running)


def wait_for_front(console: Console, http_url: str, app: ConfiguredApp) -> None:
    """Wait until the HTTP front answers for `app`: it learns of new replicas a moment later.

    Raises:
        DeploymentFailedError: it did not answer in a minute.
    """
    url = f"{http_url}{app.route_prefix.rstrip('/')}/v1/models"
    with stage(console, f"Waiting for {url}"):
        end = time.monotonic() + _FRONT_LIMIT_SECONDS
        while not _answers(url):
            if time.monotonic() > end:
                raise DeploymentFailedError(f"{url} did not answer in {_FRONT_LIMIT_SECONDS:.0f} s")
            time.sleep(0.2)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except urllib.error.HTTPError as error:
        return error.code in {401, 403}  # the model's server is there and asks for its api_key
    except (urllib.error.URLError, OSError):
        return False


def _wait_for_app(client: ServeClient, app: ConfiguredApp, running: Stage) -> None:
    def over(state: AppState | None) -> bool:
        return state is not None and (state.running or state.failed or _start_failed(state))

    def show(state: AppState | None) -> None:
        if state is not None and state.replicas:
            states = sorted(str(replica["state"]).lower() for replica in state.replicas)
            running.note(", ".join(states))

    try:
        state = client.wait_for(app.name, done=over, on_state=show)
    except TimeoutError as late:
        raise DeploymentFailedError(f"{late} It goes on; see `rayserve-par status`.") from late
    if state is None or not state.running:
        raise failure(state)


def _start_failed(state: AppState) -> bool:
    return "failed to start" in state.deployment_message


def failure(state: AppState | None) -> RefusedError | DeploymentFailedError:
    """The error for an application that did not come up, without the layers of traceback."""
    text = f"{state.message}\n{state.deployment_message}".strip() if state else "it is unknown"
    if _REFUSAL_MARK in text:
        return RefusedError(text.split(_REFUSAL_MARK, 1)[1].strip())
    name, status = (state.name, state.status) if state else ("the application", "UNKNOWN")
    return DeploymentFailedError(f"{name} is {status}: {cause(text)}", details=text)


def cause(text: str) -> str:
    """The error at the end of the last traceback in `text`; all of it where there is none."""
    lines = text.splitlines()
    frames = [number for number, line in enumerate(lines) if line.startswith("  File ")]
    after = frames[-1] + 1 if frames else 0
    for number in range(after, len(lines)):
        if lines[number] and not lines[number].startswith(" "):
            return "\n".join(lines[number:]).strip()
    return text.strip()
