"""Talks to Ray Serve's controller, with the same calls that `serve deploy` makes over REST.

A connection to the cluster is there anyway, for Ray's tables; so nothing depends on the dashboard.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from rayserve_par.errors import RefusedError

if TYPE_CHECKING:
    from ray.serve._private.client import ServeControllerClient
    from ray.serve.schema import ServeDeploySchema

_POLL_SECONDS = 0.5
# The first start of a large model downloads hundreds of gigabytes.
START_LIMIT_SECONDS = 4 * 3600.0
_FAILED = ("DEPLOY_FAILED", "UNHEALTHY")


@dataclass(frozen=True, slots=True)
class AppState:
    """One application as Serve sees it."""

    name: str
    status: str
    message: str
    route_prefix: str | None
    replicas: tuple[Mapping[str, Any], ...]
    deployment_message: str
    config: Mapping[str, Any]
    target_replicas: int = 0

    @property
    def running(self) -> bool:
        """Whether every wanted replica serves."""
        return self.status == "RUNNING"

    @property
    def failed(self) -> bool:
        """Whether Serve has given up on it."""
        return self.status in _FAILED


class ServeClient:
    """Deploy, watch and delete applications on the cluster that this process is connected to."""

    def start(self, document: Mapping[str, Any]) -> None:
        """Start Serve with the options of `document`, unless it runs.

        Raises:
            RefusedError: the document is not a valid Ray Serve config.
        """
        _started(_schema(document))

    def deploy(self, document: Mapping[str, Any]) -> None:
        """Make the cluster's applications those of `document`, as `serve deploy` does.

        Raises:
            RefusedError: the document is not a valid Ray Serve config.
        """
        schema = _schema(document)
        _started(schema).deploy_apps(schema)

    def details(self) -> dict[str, Any]:
        """Serve's whole state as its REST API gives it; empty where Serve does not run."""
        from ray.serve.context import _get_global_client

        controller = _get_global_client(raise_if_no_controller_running=False)
        if controller is None:
            return {}
        # Over REST states are words; here they come as enumerations.
        details: dict[str, Any] = json.loads(json.dumps(controller.get_serve_details()))
        return details

    def apps(self) -> tuple[AppState, ...]:
        """Every application that Serve knows."""
        return tuple(
            _app_state(name, app) for name, app in self.details().get("applications", {}).items()
        )

    def app(self, name: str) -> AppState | None:
        """The application `name`, or None."""
        return next((app for app in self.apps() if app.name == name), None)

    def beside_deployed(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """`document` plus the applications that are deployed now and that it does not name.

        Serve's API takes the whole state: what a document leaves out is deleted.
        """
        named = {app.get("name", "default") for app in document["applications"]}
        deployed = self.details().get("applications", {})
        kept = [
            app["deployed_app_config"]
            for name, app in deployed.items()
            if name not in named and app.get("deployed_app_config")
        ]
        return {**document, "applications": [*document["applications"], *kept]}

    def redeploy(self, name: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Deploy everything as it is, but the application `name` as `change` returns its config.

        Raises:
            RefusedError: there is no such application, or Serve refuses the config.
        """
        details = self.details()
        configs = {
            one: dict(app["deployed_app_config"])
            for one, app in details.get("applications", {}).items()
            if app.get("deployed_app_config")
        }
        if name not in configs:
            raise RefusedError(
                f"Serve has no application {name} that a config deployed; it has "
                f"{', '.join(sorted(configs)) or 'none'}."
            )
        configs[name] = change(configs[name])
        kept = ("proxy_location", "http_options", "grpc_options", "target_capacity")
        options = {key: details[key] for key in kept if details.get(key) is not None}
        self.deploy({**options, "applications": list(configs.values())})

    def delete(self, names: Sequence[str]) -> None:
        """Delete applications."""
        from ray import serve

        for name in names:
            serve.delete(name, _blocking=False)

    def wait_for(
        self,
        name: str,
        *,
        done: Callable[[AppState | None], bool],
        on_state: Callable[[AppState | None], None] = lambda _: None,
        limit_seconds: float = START_LIMIT_SECONDS,
    ) -> AppState | None:
        """Poll the application until `done`; returns its last state.

        Raises:
            TimeoutError: it was not done within `limit_seconds`.
        """
        end = time.monotonic() + limit_seconds
        while True:
            state = self.app(name)
            on_state(state)
            if done(state):
                return state
            if time.monotonic() > end:
                raise TimeoutError(
                    f"Application {name} is {state.status if state else 'unknown'} after "
                    f"{limit_seconds:.0f} s: {state.message if state else ''}"
                )
            time.sleep(_POLL_SECONDS)


def _app_state(name: str, app: Mapping[str, Any]) -> AppState:
    deployments = app.get("deployments", {}).values()
    return AppState(
        name=name,
        status=app.get("status", "UNKNOWN"),
        message=app.get("message", ""),
        route_prefix=app.get("route_prefix"),
        replicas=tuple(replica for d in deployments for replica in d.get("replicas", ())),
        config=app.get("deployed_app_config") or {},
        deployment_message="\n".join(d["message"] for d in deployments if d.get("message")),
        target_replicas=sum(d.get("target_num_replicas") or 0 for d in deployments),
    )


def _schema(document: Mapping[str, Any]) -> ServeDeploySchema:
    from ray.serve.schema import ServeDeploySchema

    try:
        return ServeDeploySchema.model_validate(dict(document))
    except ValidationError as error:
        raise RefusedError(f"Ray Serve refuses the config:\n{error}") from error


def _started(schema: ServeDeploySchema) -> ServeControllerClient:
    from ray.serve._private.api import serve_start

    return serve_start(
        http_options=schema.http_options.model_dump(),
        grpc_options=schema.grpc_options.model_dump(),
        proxy_location=schema.proxy_location,
        global_logging_config=schema.logging_config,
        controller_options=schema.controller_options,
    )
