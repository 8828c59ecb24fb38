"""Two applications of one model, on the cluster's nodes and on one of another kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rayserve_par.serving.cluster_view import gpu_kinds
from tests.e2e.conftest import Deployer
from tests.e2e.several_apps import deployed_apps
from tests.e2e.waiting import wait_until

KIND = {"slow": "logical-cpu", "fast": "H100"}
_EXTRA_NODE = "node-of-another-kind"


@contextmanager
def deployed_on_two_kinds(
    deployer: Deployer, args_of: Callable[[str], dict[str, Any]]
) -> Iterator[None]:
    """Both applications, each at its name's prefix, with `args_of` its name."""
    deployer.cluster.add_node(_EXTRA_NODE, KIND["fast"])
    with deployed_apps(deployer, {app: args_of(app) for app in KIND}):
        yield
    deployer.cluster.kill_node(_EXTRA_NODE)
    wait_until(lambda: set(gpu_kinds().values()) == {KIND["slow"]}, 60)
