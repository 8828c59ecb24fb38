"""The controller on a real cluster: a node comes, a node goes, the controller dies, under load.

The engine is the mock with set times: what is tried is Serve's roll-out and the placement.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest

from rayserve_par.control.decide.replan_events import ReplanEvent
from rayserve_par.control.live.store import read_replan
from rayserve_par.control.observe import living_instances
from rayserve_par.control.replanning.record import ReplanRecord
from rayserve_par.serving.cluster_view import live_nodes
from tests.e2e.conftest import APP, Deployer
from tests.e2e.waiting import wait_until

pytestmark = [pytest.mark.engine, pytest.mark.long]

CONTROLLER = "controller"
SECONDS = 90
REPLAN = {
    "settle_seconds": 3.0,
    "lost_settle_seconds": 2.0,
    "least_interval_seconds": 0.0,
    "trial_seconds": 5.0,
}
# One stream's TPOT decides, so that two GPUs of one node are better as TP2 than one as TP1.
ARGS: dict[str, Any] = {
    "model": "tiny-llama",
    "target": "latency",
    "drain_timeout_s": 30.0,
    "mock_engine": {"step_base_seconds": 0.02, "answer_tokens": 60},
}


class Controlled:
    """An application and the controller on the shared cluster, whose nodes come and go."""

    def __init__(self, deployer: Deployer) -> None:
        self.deployer = deployer
        self.cluster = deployer.cluster
        self._before = 0

    def add(self, name: str, gpus: int) -> None:
        before, self.cluster.gpus_per_node = self.cluster.gpus_per_node, gpus
        self.cluster.add_node(name)
        self.cluster.gpus_per_node = before

    def have(self, nodes: Mapping[str, int]) -> None:
        """Exactly these nodes, by name with their GPUs."""
        for name in set(self.cluster.worker_nodes) - set(nodes):
            self.cluster.kill_node(name)
        for name in set(nodes) - set(self.cluster.worker_nodes):
            self.add(name, nodes[name])
        gpus = sorted(map(float, nodes.values()))
        wait_until(
            lambda: sorted(node.gpus_total for node in live_nodes() if node.gpus_total) == gpus, 60
        )

    def deploy(self, args: Mapping[str, Any]) -> None:
        self._before = len(self.record.log.events)
        document = self.deployer.document(args)
        document["applications"].append(
            {
                "name": CONTROLLER,
                "route_prefix": None,
                "import_path": "rayserve_par:build_controller",
                "args": {"look_seconds": 0.5, "replan": REPLAN},
            }
        )
        self.deployer.client.deploy(document)
        for name in (APP, CONTROLLER):
            self.deployer.client.wait_for(
                name, done=lambda app: app is not None and app.running, limit_seconds=60
            )
        wait_until(self._answers, 30)

    def delete(self) -> None:
        self.deployer.client.delete([APP, CONTROLLER])
        wait_until(lambda: not self.deployer.client.apps(), 60)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.deployer.url}/v1/models").status_code == 200
        except httpx.HTTPError:  # HAProxy itself may be starting
            return False

    def kill_replicas_node(self) -> str:
        """Kill the node of the only replica; its name. A mock instance has no rank elsewhere."""
        names = {node.node_id: node.name for node in live_nodes()}
        name = names[self.replica(APP)["node_id"]]
        self.cluster.kill_node(name)
        return name

    def completes(self) -> bool:
        body = {"model": "tiny-llama", "prompt": "The plan", "max_tokens": 8}
        answer = httpx.post(f"{self.deployer.url}/v1/completions", json=body, timeout=60)
        return answer.status_code == 200

    @property
    def layouts(self) -> list[str]:
        return sorted(view.layout.label for view in living_instances() if view.record.app == APP)

    @property
    def record(self) -> ReplanRecord:
        return ReplanRecord.from_object(read_replan(APP))

    @property
    def note(self) -> str:
        latest = self.record.latest
        return latest.note if latest and latest.why == "missing" else ""

    def acted(self) -> list[str]:
        """Actions that were carried out, oldest first."""
        return [str(one.decision.action) for one in self.events()]

    def events(self) -> list[ReplanEvent]:
        """What was carried out on this configuration, oldest first."""
        return [one for one in self.record.log.events[self._before :] if one.carried_out]

    def replica(self, app: str) -> Mapping[str, Any]:
        [replica] = self.replicas(app)
        return replica

    def replicas(self, app: str) -> tuple[Mapping[str, Any], ...]:
        state = self.deployer.client.app(app)
        return () if state is None else state.replicas


@pytest.fixture
def full(deployer: Deployer) -> Iterator[Controlled]:
    """Two nodes of two GPUs."""
    deployer.delete()
    made = Controlled(deployer)
    yield made
    made.delete()


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


class Streams:
    """Clients that stream one answer after another; what does not end with [DONE] is lost."""

    def __init__(self, url: str, streams: int = 4) -> None:
        self._url = url
        self._over = threading.Event()
        self.whole = 0
        self.lost: list[str] = []
        self._threads = [threading.Thread(target=self._send) for _ in range(streams)]

    def _send(self) -> None:
        body = {"model": "tiny-llama", "prompt": "The plan", "max_tokens": 50, "stream": True}
        while not self._over.is_set():
            try:
                with httpx.stream(
                    "POST", f"{self._url}/v1/completions", json=body, timeout=60
                ) as answer:
                    text = "".join(answer.iter_text())
            except httpx.HTTPError as error:
                self.lost.append(repr(error))
                continue
            if answer.status_code == 200 and "[DONE]" in text:
                self.whole += 1
            else:
                self.lost.append(f"{answer.status_code}: {text[-200:]}")

    def __enter__(self) -> Streams:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


def test_where_no_gpu_is_free_one_instance_after_the_other_is_replaced(full: Controlled) -> None:
    full.deploy({**ARGS, "num_replicas": 2, "replanned": {"pp": 2, "instances": 2}})
    with Streams(full.deployer.url) as load:
        wait_until(lambda: full.layouts == ["TP2", "TP2"], SECONDS)
        wait_until(lambda: full.acted() == ["change", "count"], SECONDS)
    assert [str(one.decision.way) for one in full.events() if one.decision.way] == ["one_by_one"]
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
