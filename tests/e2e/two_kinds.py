"""Two applications of one model, on the cluster's nodes and on one of another kind."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console

from rayserve_par.cli.bring_up import bring_up, wait_for_front
from rayserve_par.control.config_file import ConfiguredApp, ServeConfig
from rayserve_par.control.live import store
from rayserve_par.serving.cluster_view import gpu_kinds
from rayserve_par.serving.config import parse_args
from tests.e2e.conftest import Deployer
from tests.e2e.waiting import wait_until

KIND = {"slow": "logical-cpu", "fast": "H100"}
_EXTRA_NODE = "node-of-another-kind"


@contextmanager
def deployed_on_two_kinds(
    deployer: Deployer, args_of: Callable[[str], dict[str, Any]]
) -> Iterator[None]:
    """Both applications, each at its name's prefix, with `args_of` its name."""
    deployer.delete()
    deployer.cluster.add_node(_EXTRA_NODE, KIND["fast"])
    document = deployer.document({})
    [template] = document["applications"]
    document["applications"] = [
        {**template, "name": app, "route_prefix": f"/{app}", "args": args_of(app)} for app in KIND
    ]
    apps = tuple(ConfiguredApp(app, f"/{app}", parse_args(args_of(app), app), {}) for app in KIND)
    config = ServeConfig(path=os.devnull, document=document, apps=apps)  # type: ignore[arg-type]
    console = Console(highlight=False)
    bring_up(console, deployer.client, config, document)
    for app in apps:
        wait_for_front(console, deployer.url, app)
    yield
    deployer.client.delete(list(KIND))
    wait_until(lambda: deployer.gpus_free() == deployer.gpus_total(), 120)
    for app in KIND:
        store.forget(app)
    deployer.cluster.kill_node(_EXTRA_NODE)
    wait_until(lambda: set(gpu_kinds().values()) == {KIND["slow"]}, 60)
