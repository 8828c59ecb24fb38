"""The live controller on a real cluster: load, an operator, a silent instance, a dead controller.

Mock engines of known speed stand behind the real Serve, HAProxy and replicas: one carries about 8
requests a second within the target, so a few dozen requests show everything.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
import ray

from rayserve_par.control.live import store
from rayserve_par.control.live.records import NO_OVERRIDE, ControlStatus, Mode, Override
from rayserve_par.serving.rank_table import InstanceRecord
from tests.e2e.conftest import APP, Deployer
from tests.e2e.mock_times import SMALL_ENGINE
from tests.e2e.open_load import OpenLoad
from tests.e2e.waiting import wait_until

pytestmark = pytest.mark.engine

LOOK_SECONDS = 1.0
START_SECONDS = 60.0  # of a replica on a busy machine
SHORTEST_LOOK_BACK_SECONDS = 30.0
ARGS: dict[str, Any] = {
    "model": "tiny-llama",
    "layout": {"tp": 1},
    "workload": {"isl": 64, "osl": 32, "ttft_ms": 1000, "tpot_ms": 100},
    "autoscaling": {
        "max_replicas": 3,
        "look_seconds": LOOK_SECONDS,
        "start_seconds": 5,
        "settle_seconds": 5,
    },
    # Nothing is shed while an instance starts, so that every request must be answered.
    "admission": {"concurrency": {"min": 256}},
    "mock_engine": {**SMALL_ENGINE, "step_base_seconds": 0.02},
}
BODY = {"model": "tiny-llama", "prompt": "a " * 64, "max_tokens": 32, "ignore_eos": True}


@pytest.fixture(scope="module", autouse=True)
def deployed(deployer: Deployer) -> Iterator[None]:
    store.forget(APP)
    deployer.deploy(ARGS)
    yield
    deployer.delete()
    store.forget(APP)


@pytest.fixture(autouse=True)
def no_override() -> Iterator[None]:
    yield
    store.write_override(APP, NO_OVERRIDE)


def status() -> ControlStatus | None:
    return next((one for one in store.read_statuses() if one.app == APP), None)


def problems() -> tuple[str, ...]:
    found = status()
    return () if found is None else found.problems


def settled(ready: int, seconds: float) -> ControlStatus:
    """The status once so many instances run, and none starts."""

    def look() -> ControlStatus | None:
        found = status()
        done = found is not None and found.ready == ready and not found.starting
        return found if done else None

    return wait_until(look, seconds) or pytest.fail("no status")


def running_instance(deployer: Deployer) -> InstanceRecord:
    """One that Serve calls running; one that drains lives on for a while, and reports no more."""
    app = deployer.client.app(APP)
    assert app is not None
    running = {str(one["replica_id"]) for one in app.replicas if one["state"] == "RUNNING"}
    records = [one.record for one in deployer.observe().instances]
    return next(one for one in records if one.replica_id in running)


def test_load_brings_instances_and_its_end_takes_them(deployer: Deployer) -> None:
    settled(1, START_SECONDS)
    with OpenLoad(deployer.url, BODY, rate=12) as load:
        begun = time.monotonic()
        wait_until(lambda: (found := status()) is not None and found.wanted > 1, 20)
        wanted_after = time.monotonic() - begun
        busy = wait_until(
            lambda: now if (now := status()) is not None and now.ready > 1 else None, START_SECONDS
        )
        ready_after = time.monotonic() - begun
        time.sleep(2 * LOOK_SECONDS)
        shown = status()
        assert shown is not None
        assert shown.requests_per_second > 2
        assert shown.isl > 32
        assert shown.tpot_seconds is not None
    ended = time.monotonic()
    # Reports take a second to be whole, two to be sent and one to be looked at.
    assert wanted_after < 10 + LOOK_SECONDS
    assert busy.start_seconds < START_SECONDS
    settled(1, SHORTEST_LOOK_BACK_SECONDS + 60)
    print(
        f"wanted after {wanted_after:.1f} s, ready after {ready_after:.1f} s, down after "
        f"{time.monotonic() - ended:.1f} s, a start {busy.start_seconds:.1f} s, {load.outcomes}"
    )
    assert load.all_served, load.outcomes
    events = store.read_events(APP)["events"]
    reasons = [one["decision"]["reason"] for one in events]
    assert "shrink" in reasons
    assert {"forecast", "at_max", "backlog"} & set(reasons)


@pytest.mark.long
def test_an_operator_sets_a_number_and_pauses(deployer: Deployer) -> None:
    store.write_override(APP, Override(instances=2, note="tried"))
    found = settled(2, START_SECONDS)
    assert found.mode is Mode.OVERRIDDEN
    store.write_override(APP, Override(paused=True))
    wait_until(lambda: (now := status()) is not None and now.mode is Mode.PAUSED, 10)
    with OpenLoad(deployer.url, BODY, rate=18) as load:
        wait_until(lambda: (now := status()) is not None and now.decided > 2, 20)
        time.sleep(3 * LOOK_SECONDS)
        found = settled(2, 1)
    assert (found.mode, found.wanted) == (Mode.PAUSED, 2)
    assert load.all_served, load.outcomes


@pytest.mark.long
def test_an_instance_that_reports_nothing_is_not_taken_for_idle(deployer: Deployer) -> None:
    store.write_override(APP, Override(instances=2))
    settled(2, START_SECONDS)
    silent = running_instance(deployer)
    pid = ray._private.state.actors()[silent.actor_id]["Pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(lambda: silent.replica_id in "".join(problems()), 20)
        store.write_override(APP, NO_OVERRIDE)
        wait_until(lambda: (now := status()) is not None and now.mode is Mode.ACTING, 10)
        time.sleep(3 * LOOK_SECONDS)
        after = status()
        assert after is not None
        assert after.wanted >= 2
        assert after.problems
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: (now := status()) is not None and not now.problems, 20)


@pytest.mark.long
def test_the_death_of_serves_controller_changes_nothing_for_clients(deployer: Deployer) -> None:
    from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE

    store.write_override(APP, Override(instances=2))
    settled(2, START_SECONDS)
    with OpenLoad(deployer.url, BODY, rate=12) as load:
        store.write_override(APP, NO_OVERRIDE)
        wait_until(lambda: (now := status()) is not None and now.mode is Mode.ACTING, 10)
        before = status()
        assert before is not None
        killed = time.time()
        controller = ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
        ray.kill(controller, no_restart=False)
        again = wait_until(
            lambda: now if (now := status()) is not None and now.seconds > killed + 1 else None,
            60,
        )
        assert again.wanted == before.wanted, "it knows no load yet, so it keeps the number"
        later = settled(before.wanted, START_SECONDS)
        assert later.wanted == before.wanted
    assert load.all_served, load.outcomes
    wait_until(lambda: (now := status()) is not None and now.requests_per_second > 1, 20)


@pytest.mark.long
def test_a_real_engine_tells_what_it_does(deployer: Deployer) -> None:
    """vLLM in the mock's place: arrivals, lengths, TTFT, TPOT and steps, and nothing is done."""
    args = {key: value for key, value in ARGS.items() if key not in {"mock_engine", "admission"}}
    scaling = {**ARGS["autoscaling"], "dry_run": True}
    engine = {"max_model_len": 512, "dtype": "float32"}
    deployer.deploy({**args, "autoscaling": scaling, "engine": engine})
    settled(1, START_SECONDS)
    seen: list[ControlStatus] = []

    def ended() -> bool:
        found = status()
        if found is not None:
            seen.append(found)
        return found is not None and found.osl < 31

    # 24 tokens each, where 32 were planned: the mean must move.
    with OpenLoad(deployer.url, {**BODY, "max_tokens": 24}, rate=4) as load:
        wait_until(ended, 30)
    assert load.all_served, load.outcomes
    last = seen[-1]
    assert last.mode is Mode.DRY_RUN
    assert last.wanted == last.ready == 1
    assert last.requests_per_second > 0
    assert last.isl > 32
    paced = [one for one in seen if one.tpot_seconds is not None and one.ttft_seconds is not None]
    assert paced
    assert all(0 < (one.tpot_seconds or 0) < 5 for one in paced)
    assert all(0 < (one.ttft_seconds or 0) < 30 for one in paced)
    assert last.correction != 1.0, "its steps were timed"
