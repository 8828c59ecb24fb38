"""Two applications of one pool under load that neither of them carries: each scales by its share.

Mock engines on nodes of two kinds. Full, a slow instance serves 6.9 requests a second and a fast
one 9.6 (`EngineTimes.full_requests_per_second`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from rayserve_par.control.live import store
from rayserve_par.control.live.records import ControlStatus
from tests.e2e.conftest import Deployer
from tests.e2e.mock_times import SMALL_ENGINE
from tests.e2e.open_load import OpenLoad
from tests.e2e.two_kinds import KIND, deployed_on_two_kinds
from tests.e2e.waiting import wait_until

pytestmark = [pytest.mark.engine, pytest.mark.long]

STEP_SECONDS = {"slow": 0.04, "fast": 0.02}
# More than one of each carries, less than two.
REQUESTS_PER_SECOND = 18
SCALE_SECONDS = 90.0


def args_of(app: str) -> dict[str, Any]:
    return {
        "model": "tiny-llama",
        "served_model_name": "chat",
        "node_group": KIND[app],
        "layout": {"tp": 1},
        "workload": {"isl": 64, "osl": 32, "ttft_ms": 1000, "tpot_ms": 100},
        "autoscaling": {"max_replicas": 2, "look_seconds": 1, "start_seconds": 5},
        "admission": {"concurrency": {"min": 256}},
        "mock_engine": {**SMALL_ENGINE, "step_base_seconds": STEP_SECONDS[app]},
    }


@pytest.fixture(scope="module", autouse=True)
def deployed(deployer: Deployer) -> Iterator[None]:
    with deployed_on_two_kinds(deployer, args_of):
        yield


def statuses() -> dict[str, ControlStatus]:
    return {one.app: one for one in store.read_statuses() if one.app in KIND}


def shares_now() -> dict[str, float]:
    return {app: one.requests_per_second for app, one in statuses().items()}


def test_each_application_of_a_pool_scales_by_the_share_it_gets(deployer: Deployer) -> None:
    wait_until(lambda: sum(one.ready for one in statuses().values()) == 2, SCALE_SECONDS)
    rooms = {app: one.room for app, one in statuses().items()}
    body = {"model": "chat", "prompt": "a " * 64, "max_tokens": 32, "ignore_eos": True}
    with OpenLoad(deployer.url, body, REQUESTS_PER_SECOND) as load:
        wait_until(lambda: all(one.ready == 2 for one in statuses().values()), SCALE_SECONDS)
        # What the policies know of the load is a mean, which begins without it.
        wait_until(lambda: sum(shares_now().values()) > 0.8 * REQUESTS_PER_SECOND, SCALE_SECONDS)
        shares = shares_now()
    print(f"{load.outcomes}; requests/s {shares}; room before {rooms}")
    assert load.all_served, load.outcomes
    # What is free of the other kind is no room.
    assert rooms["fast"] == 1
    assert shares["fast"] > 1.15 * shares["slow"]
