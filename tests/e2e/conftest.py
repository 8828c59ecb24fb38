"""One real Ray cluster of two nodes for all end-to-end tests, and deployments on it over HTTP."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest
from rich.console import Console

from rayserve_par.cli.bring_up import bring_up, wait_for_front
from rayserve_par.cli.local.cluster import LocalCluster
from rayserve_par.cli.local.ports import free_ports
from rayserve_par.control.config_file import ConfiguredApp, ServeConfig
from rayserve_par.control.observe import Observation, living_instances, observe
from rayserve_par.control.serve_client import ServeClient
from rayserve_par.serving.config import parse_args
from tests.e2e.waiting import wait_until

APP = "tested"


class Deployer:
    """Deploys one application at a time on the shared cluster."""

    def __init__(self, cluster: LocalCluster) -> None:
        assert cluster.session is not None
        self.cluster = cluster
        self.url = f"http://127.0.0.1:{cluster.session.http_port}"
        self.client = ServeClient()
        self._deployed: dict[str, Any] | None = None

    def deploy(self, args: Mapping[str, Any], *, update: bool = False) -> str:
        """Deploy `args`, wait until it answers, and return the base URL.

        With `update` over what is deployed, else after deleting that.
        """
        if self._deployed == dict(args):
            return self.url
        if not update:
            self.delete()
        document = self.document(args)
        app = ConfiguredApp(APP, "/", parse_args(args, APP), {})
        config = ServeConfig(path=os.devnull, document=document, apps=(app,))  # type: ignore[arg-type]
        console = Console(highlight=False)
        bring_up(console, self.client, config, document)
        wait_for_front(console, self.url, app)
        self._deployed = dict(args)
        return self.url

    def document(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """The Serve config that deploys `args`."""
        assert self.cluster.session is not None
        return {
            "proxy_location": "HeadOnly",
            "http_options": {"host": "127.0.0.1", "port": self.cluster.session.http_port},
            "applications": [
                {
                    "name": APP,
                    "route_prefix": "/",
                    "import_path": "rayserve_par:build_app",
                    "args": dict(args),
                }
            ],
        }

    def delete(self) -> None:
        """Delete the application and wait until every GPU is free."""
        if self.client.app(APP) is not None:
            self.client.delete([APP])
        wait_until(lambda: not living_instances() and self.gpus_free() == self.gpus_total(), 120)
        self._deployed = None

    def observe(self) -> Observation:
        return observe(self.client)

    def gpus_free(self) -> float:
        return sum(node.gpus_free for node in self.observe().nodes)

    def gpus_total(self) -> float:
        return sum(node.gpus_total for node in self.observe().nodes)

    def complete(self, prompt: str, tokens: int = 24, **more: Any) -> httpx.Response:
        """One greedy completion request."""
        model = self._deployed["model"] if self._deployed else "none"
        body = {
            "model": model, "prompt": prompt, "max_tokens": tokens, "temperature": 0.0,
            "ignore_eos": True, "return_token_ids": True, **more,
        }  # fmt: skip
        return httpx.post(f"{self.url}/v1/completions", json=body, timeout=60)


@pytest.fixture(scope="session")
def cluster() -> Iterator[LocalCluster]:
    import ray

    [port] = free_ports(1)
    with LocalCluster(http_port=port) as running:
        assert running.session is not None
        ray.init(address=running.session.gcs_address, log_to_driver=False, namespace="rayserve_par")
        yield running


@pytest.fixture(scope="session")
def deployer(cluster: LocalCluster) -> Deployer:
    return Deployer(cluster)
