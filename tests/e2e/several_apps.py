"""Several applications deployed at once, each at its own prefix."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console

from rayserve_par.cli.bring_up import bring_up, wait_for_front
from rayserve_par.control.config_file import ConfiguredApp, ServeConfig
from rayserve_par.control.live import store
from rayserve_par.serving.config import parse_args
from tests.e2e.conftest import Deployer
from tests.e2e.waiting import wait_until


@contextmanager
def deployed_apps(deployer: Deployer, args: Mapping[str, dict[str, Any]]) -> Iterator[None]:
    """Applications with these `args` by name, answering; afterwards none, and all GPUs free."""
    deployer.delete()
    document = deployer.document({})
    [template] = document["applications"]
    document["applications"] = [
        {**template, "name": app, "route_prefix": f"/{app}", "args": given}
        for app, given in args.items()
    ]
    apps = tuple(
        ConfiguredApp(app, f"/{app}", parse_args(given, app), {}) for app, given in args.items()
    )
    config = ServeConfig(path=os.devnull, document=document, apps=apps)  # type: ignore[arg-type]
    console = Console(highlight=False)
    bring_up(console, deployer.client, config, document)
    for app in apps:
        wait_for_front(console, deployer.url, app)
    yield
    deployer.client.delete(list(args))
    wait_until(lambda: deployer.gpus_free() == deployer.gpus_total(), 120)
    for app in args:
        store.forget(app)
