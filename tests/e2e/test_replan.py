"""The controller on a real cluster: a node comes, a node goes, the controller dies, under load.

The engine is the mock with set times: what is tried is Serve's roll-out and the placement.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from rayserve_par.control.live import store
from rayserve_par.control.live.records import NO_OVERRIDE, Override
from tests.e2e.conftest import APP, Deployer
from tests.e2e.controlled import CONTROLLER, Controlled, Streams
from tests.e2e.timeline import Timeline
from tests.e2e.waiting import wait_until

pytestmark = [pytest.mark.engine, pytest.mark.long]

SECONDS = 90
# One stream's TPOT decides, so that two GPUs of one node are better as TP2 than one as TP1.
ARGS: dict[str, Any] = {
    "model": "tiny-llama",
    "target": "latency",
    "drain_timeout_s": 30.0,
    "mock_engine": {"step_base_seconds": 0.02, "answer_tokens": 60},
}


@pytest.fixture
def full(deployer: Deployer) -> Iterator[Controlled]:
    """Two nodes of two GPUs, and nothing known of the application."""
    deployer.delete()
    store.forget(APP)
    made = Controlled(deployer)
    yield made
    made.delete()
    store.forget(APP)


@pytest.fixture(scope="module")
def small(deployer: Deployer) -> Iterator[Controlled]:
    """Nodes as a test wants them, by `have`; the usual ones at the end."""
    deployer.delete()
    # Before nodes come and go: their ports are any, and could be those that HAProxy will bind.
    deployer.client.start(deployer.document(ARGS))
    made = Controlled(deployer)
    yield made
    made.delete()
    made.have({"node-1": 2, "node-2": 2})


def test_where_no_gpu_is_free_one_instance_after_the_other_is_replaced(full: Controlled) -> None:
    full.deploy({**ARGS, "num_replicas": 2, "replanned": {"pp": 2, "instances": 2}})
    with Timeline(full), Streams(full.deployer.url) as load:
        wait_until(lambda: full.layouts == ["TP2", "TP2"], SECONDS)
        wait_until(lambda: full.acted() == ["change", "count"], SECONDS)
    assert [str(one.decision.way) for one in full.events() if one.decision.way] == ["one_by_one"]
    assert load.lost == []
    assert load.whole > 0


def test_a_roll_out_goes_on_when_the_re_planner_dies(full: Controlled) -> None:
    # It would begin before the application is seen to run, and be over before it is killed.
    store.write_override(APP, Override(paused=True))
    full.deploy({**ARGS, "num_replicas": 2, "replanned": {"pp": 2, "instances": 2}})
    with Streams(full.deployer.url) as load:
        store.write_override(APP, NO_OVERRIDE)
        wait_until(lambda: full.acted() == ["change"], SECONDS)
        os.kill(int(full.replica(CONTROLLER)["pid"]), signal.SIGKILL)
        wait_until(lambda: full.acted() == ["change", "count"], SECONDS)
        # The last one starts in the last step.
        wait_until(lambda: full.layouts == ["TP2", "TP2"], SECONDS)
    assert load.lost == []
    assert load.whole > 0


def test_a_node_comes_the_controller_dies_the_node_goes(small: Controlled) -> None:
    small.have({"small-1": 1})
    small.deploy(ARGS)
    assert small.layouts == ["TP1"]

    with Streams(small.deployer.url) as load:
        small.add("large-1", 2)
        wait_until(lambda: small.layouts == ["TP2"], SECONDS)
        wait_until(lambda: small.acted() == ["change", "count"], SECONDS)
        time.sleep(2)
    assert load.lost == []
    assert load.whole > 0

    # Its death is no reason to do anything again.
    serving = small.replica(APP)["replica_id"]
    killed = small.replica(CONTROLLER)
    looked = small.record.seconds
    os.kill(int(killed["pid"]), signal.SIGKILL)
    wait_until(
        lambda: (
            killed["replica_id"] not in {one["replica_id"] for one in small.replicas(CONTROLLER)}
            and small.record.seconds > looked + 2
        ),
        SECONDS,
    )
    assert small.acted() == ["change", "count"]
    assert small.replica(APP)["replica_id"] == serving

    small.cluster.kill_node("large-1")
    wait_until(lambda: small.layouts == ["TP1"], SECONDS)
    assert small.acted()[2] == "fall_back"
    wait_until(small.completes, 30)


def test_half_of_a_two_node_instance_goes(small: Controlled) -> None:
    small.delete()
    small.have({"small-1": 1, "small-2": 1})
    across = {"pp": 2, "across": "nodes"}
    small.deploy({**ARGS, "replanned": {**across, "instances": 1}})
    assert small.layouts == ["PP2"]
    lost = small.kill_replicas_node()
    wait_until(lambda: small.layouts == ["TP1"], SECONDS)
    [event, *_] = small.events()
    assert event.decision.action == "fall_back"
    assert "2 nodes" in event.decision.note

    # A layout that its user has set is not replaced; what is missing is said.
    small.delete()
    small.add(lost, 1)
    small.deploy({**ARGS, "layout": across})
    small.kill_replicas_node()
    # Until Ray has noticed, what is missing is told of free GPUs; then of nodes.
    wait_until(lambda: "2 nodes per instance, 1 node" in small.note, SECONDS)
    assert small.acted() == []
    assert small.layouts == []
