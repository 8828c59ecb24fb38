"""Two models want the same GPUs of a real cluster: who gets them, and who gives one up.

Four GPUs, one instance of each model at rest. Mock engines of known speed stand behind the real
Serve, HAProxy and replicas: one carries 5.4 requests a second within the target.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import ray
from ray.util.placement_group import placement_group, remove_placement_group

from rayserve_par.control.live import store
from rayserve_par.control.live.records import ControlStatus
from tests.e2e.conftest import Deployer
from tests.e2e.gpu_watch import GpuWatch
from tests.e2e.mock_times import SMALL_ENGINE
from tests.e2e.open_load import OpenLoad
from tests.e2e.several_apps import deployed_apps
from tests.e2e.waiting import wait_until

pytestmark = [pytest.mark.engine, pytest.mark.long]

CHAT, BATCH = "chat", "batch"
PRIORITY = {CHAT: 1, BATCH: 0}
GPUS = 4
# Requests per second: one instance carries `LIGHT`, three are needed for `HEAVY`.
LIGHT, HEAVY = 4.5, 13.0
LONG_QUEUE = 60
START_SECONDS = 60.0  # of a replica on a busy machine
LOOK_BACK_SECONDS = 30.0
# Load that mostly changes has no level which a recent scale-up could be kept for.
EVEN_SECONDS = 60.0
GIVE_UP_SECONDS = 10.0


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
            # Longer than the test, so that a spare instance goes by being given up only.
            "settle_seconds": 600,
        },
        # Nothing is shed while GPUs are missing, so that every request must be answered.
        "admission": {"concurrency": {"min": 512}},
        "mock_engine": {**SMALL_ENGINE, "step_base_seconds": 0.04},
    }


@pytest.fixture(scope="module", autouse=True)
def deployed(deployer: Deployer) -> Iterator[None]:
    with deployed_apps(deployer, {app: args_of(app) for app in PRIORITY}):
        yield


@pytest.fixture(autouse=True)
def at_rest(deployed: None) -> Iterator[None]:  # noqa: ARG001 - after it
    wait_until(lambda: instances() == {CHAT: 1, BATCH: 1}, LOOK_BACK_SECONDS + START_SECONDS)
    yield
    for app, one in statuses().items():
        print(told(app), one, sep="\n")


@contextmanager
def held(gpus: int) -> Iterator[None]:
    """So many GPUs are taken by somebody else."""
    group = placement_group([{"GPU": 1}] * gpus, name="somebody-else")
    ray.get(group.ready(), timeout=30)
    try:
        yield
    finally:
        remove_placement_group(group)


def statuses() -> dict[str, ControlStatus]:
    return {one.app: one for one in store.read_statuses() if one.app in PRIORITY}


def reasons() -> dict[str, str]:
    return {app: one.reason for app, one in statuses().items()}


def instances() -> dict[str, int]:
    """Those that run, of applications of which none starts or ends."""
    return {
        app: one.ready
        for app, one in statuses().items()
        if one.ready == one.wanted and not one.starting and not one.draining
    }


def in_need(app: str) -> bool:
    """Whether it wants all that it may have: one instance for `HEAVY`, and a long queue."""
    one = statuses()[app]
    queue = sum(instance.waiting for instance in one.instances)
    return one.reason == "no_room" and queue >= LONG_QUEUE


def notes_of(app: str, reason: str) -> list[str]:
    decisions = [one["decision"] for one in store.read_events(app)["events"]]
    return [one["note"] for one in decisions if one["reason"] == reason]


def told(app: str) -> str:
    """Its decisions, for who reads a failure."""
    found = [one["decision"] for one in store.read_events(app)["events"]]
    return "\n".join(f"{app}: {one['wanted']} {one['reason']}: {one['note']}" for one in found)


def load(deployer: Deployer, app: str, rate: float, *, stream: bool = False) -> OpenLoad:
    body = {
        "model": app, "prompt": "a " * 64, "max_tokens": 32, "ignore_eos": True, "stream": stream,
    }  # fmt: skip
    return OpenLoad(f"{deployer.url}/{app}", body, rate)


def test_a_spare_instance_is_given_up_for_a_model_that_misses_its_target(
    deployer: Deployer,
) -> None:
    with (
        GpuWatch() as asked,
        load(deployer, CHAT, LIGHT / 2) as chat,
        load(deployer, BATCH, LIGHT, stream=True) as batch,
    ):
        time.sleep(EVEN_SECONDS)
        with load(deployer, BATCH, HEAVY - LIGHT, stream=True) as burst:
            wait_until(lambda: instances() == {CHAT: 1, BATCH: 3}, START_SECONDS)
        # What it keeps after the burst has left the look-back, it keeps only for the time being.
        wait_until(lambda: reasons()[BATCH] == "hold", LOOK_BACK_SECONDS + START_SECONDS)
        wait_until(lambda: instances() == {CHAT: 1, BATCH: 3}, START_SECONDS)
        with load(deployer, CHAT, HEAVY - LIGHT / 2, stream=True) as more:
            wait_until(
                lambda: instances() == {CHAT: 2, BATCH: 2},
                LOOK_BACK_SECONDS + GIVE_UP_SECONDS + START_SECONDS,
            )
            for one in (chat, batch, more):
                one.end()
    gave_up = notes_of(BATCH, "gave_up")
    print(f"{asked.most:g} GPUs asked for at the most, {asked.samples} samples; {gave_up}")
    assert asked.most == GPUS
    assert gave_up
    assert all("given up for chat (priority 1), which misses its target" in one for one in gave_up)
    for one in (chat, batch, burst, more):
        assert one.all_served, one.outcomes


def test_free_gpus_go_by_priority_and_no_more_are_asked_for(deployer: Deployer) -> None:
    with GpuWatch() as asked, ExitStack() as loads:
        # So both want three, and have said so, before there is anything to share.
        with held(2):
            wait_until(lambda: {one.room for one in statuses().values()} == {0}, START_SECONDS)
            batch = loads.enter_context(load(deployer, BATCH, HEAVY))
            chat = loads.enter_context(load(deployer, CHAT, HEAVY))
            wait_until(lambda: all(map(in_need, PRIORITY)), START_SECONDS)
        wait_until(lambda: instances() == {CHAT: 3, BATCH: 1}, START_SECONDS)
        wait_until(lambda: reasons()[BATCH] == "no_room", START_SECONDS)
        for one in (batch, chat):
            one.end()
    print(f"{asked.most:g} GPUs asked for at the most, {asked.samples} samples")
    assert asked.most == GPUS
    assert asked.samples > 10
    assert any("GPUs free" in one and "missing" in one for one in notes_of(BATCH, "no_room"))
    assert chat.all_served, chat.outcomes
    assert batch.all_served, batch.outcomes
