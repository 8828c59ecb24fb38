"""Two models want the last free GPUs of a real cluster: no more is asked for than there is.

Four GPUs, one instance of each model, and load for three of each: two GPUs are free, four wanted.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console

from rayserve_par.cli.bring_up import bring_up, wait_for_front
from rayserve_par.control.config_file import ConfiguredApp, ServeConfig
from rayserve_par.control.live import store
from rayserve_par.control.live.gpu_view import read_gpu_view
from rayserve_par.control.live.records import ControlStatus
from rayserve_par.serving.config import parse_args
from tests.e2e.conftest import Deployer
from tests.e2e.mock_times import SMALL_ENGINE
from tests.e2e.open_load import OpenLoad
from tests.e2e.waiting import wait_until

pytestmark = [pytest.mark.engine, pytest.mark.long]

CHAT, BATCH = "chat", "batch"
PRIORITY = {CHAT: 1, BATCH: 0}
GPUS = 4
START_SECONDS = 60.0  # of a replica on a busy machine


def args_of(app: str) -> dict[str, Any]:
    return {
        "model": "tiny-llama",
        "served_model_name": app,
        "layout": {"tp": 1},
        "workload": {"isl": 64, "osl": 32, "ttft_ms": 1000, "tpot_ms": 100},
        "autoscaling": {
            "max_replicas": 3,
            "priority": PRIORITY[app],
            "look_seconds": 1,
            "start_seconds": 5,
            "settle_seconds": 60,
        },
        "admission": {"concurrency": {"min": 256}},
        "mock_engine": {**SMALL_ENGINE, "step_base_seconds": 0.04},
    }


@pytest.fixture(scope="module", autouse=True)
def deployed(deployer: Deployer) -> Iterator[None]:
    deployer.delete()
    document = deployer.document({})
    [template] = document["applications"]
    document["applications"] = [
        {**template, "name": app, "route_prefix": f"/{app}", "args": args_of(app)}
        for app in PRIORITY
    ]
    apps = tuple(
        ConfiguredApp(app, f"/{app}", parse_args(args_of(app), app), {}) for app in PRIORITY
    )
    config = ServeConfig(path=os.devnull, document=document, apps=apps)  # type: ignore[arg-type]
    console = Console(highlight=False)
    bring_up(console, deployer.client, config, document)
    for app in apps:
        wait_for_front(console, deployer.url, app)
    yield
    deployer.client.delete(list(PRIORITY))
    wait_until(lambda: deployer.gpus_free() == deployer.gpus_total(), 120)
    for app in PRIORITY:
        store.forget(app)


def statuses() -> dict[str, ControlStatus]:
    return {one.app: one for one in store.read_statuses() if one.app in PRIORITY}


def load(deployer: Deployer, app: str, rate: float) -> OpenLoad:
    body = {"model": app, "prompt": "a " * 64, "max_tokens": 32, "ignore_eos": True}
    return OpenLoad(f"{deployer.url}/{app}", body, rate)


def test_two_models_share_the_last_gpus(deployer: Deployer) -> None:
    most_wanted = most_pending = 0

    def all_given() -> bool:
        nonlocal most_wanted, most_pending
        found = statuses()
        most_wanted = max(most_wanted, sum(one.wanted for one in found.values()))
        running = sum(one.placed for one in read_gpu_view().groups)
        most_pending = max(most_pending, len(read_gpu_view().groups) - running)
        return sum(one.ready for one in found.values()) == GPUS and short_of_room()

    def short_of_room() -> bool:
        return any(one.reason == "no_room" for one in statuses().values())

    wait_until(lambda: sum(one.ready for one in statuses().values()) == 2, START_SECONDS)
    with load(deployer, BATCH, 10) as batch, load(deployer, CHAT, 12) as chat:
        wait_until(all_given, START_SECONDS)
    found = statuses()
    notes = [
        one["decision"]["note"]
        for app in PRIORITY
        for one in store.read_events(app)["events"]
        if one["decision"]["reason"] == "no_room"
    ]
    print(
        f"wanted {most_wanted} at the most, {most_pending} without GPUs at a time; "
        f"chat {found[CHAT].wanted}, batch {found[BATCH].wanted}; {notes}; "
        f"{chat.outcomes} {batch.outcomes}"
    )
    assert most_wanted == GPUS
    assert found[CHAT].wanted >= found[BATCH].wanted
    assert any("GPUs free" in one and "missing" in one for one in notes)
    assert chat.all_served, chat.outcomes
    assert not [one for one in read_gpu_view().groups if not one.placed]
