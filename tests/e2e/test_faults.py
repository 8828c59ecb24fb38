"""A killed part brings the whole instance back by itself; requests meanwhile fail fast, in form."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import httpx
import psutil
import pytest
import ray

from rayserve_par.serving.cluster_view import live_nodes
from tests.e2e.conftest import APP, Deployer
from tests.e2e.waiting import wait_until

pytestmark = pytest.mark.engine

PP2 = {
    "model": "tiny-llama",
    "layout": {"pp": 2, "across": "nodes"},
    "engine": {"max_model_len": 512, "dtype": "float32"},
}
RECOVERY_SECONDS = 180
FAIL_FAST_SECONDS = 8.0
# Requests that meet the death itself, or HAProxy's reload after it.
MOST_CUT = 3


def replica_pid(deployer: Deployer) -> int:
    app = deployer.client.app(APP)
    assert app is not None
    [replica] = app.replicas
    return int(replica["pid"])


def engine_pid(deployer: Deployer) -> int:
    children = psutil.Process(replica_pid(deployer)).children(recursive=True)
    [engine] = [child.pid for child in children if "EngineCore" in " ".join(child.cmdline())]
    return int(engine)


def worker_pid(deployer: Deployer) -> int:
    rank = deployer.observe().instances[0].ranks[-1]
    return int(ray._private.state.actors(rank.actor_id)["Pid"])


def is_openai_error(answer: httpx.Response) -> bool:
    return "message" in answer.json().get("error", {})


def assert_recovers(deployer: Deployer, before: list[int], killed_actors: set[str]) -> None:
    """Until the instance is back every request fails fast and in form; then the tokens agree."""
    end = time.monotonic() + RECOVERY_SECONDS
    refused = cut = 0
    while True:
        started = time.monotonic()
        answer = complete_or_cut(deployer)
        seconds = time.monotonic() - started
        assert seconds < FAIL_FAST_SECONDS, f"a request hung for {seconds:.1f} s"
        if answer is None:
            cut += 1
        elif answer.status_code == 200:
            alive = {view.record.actor_id for view in deployer.observe().instances}
            if alive and not alive & killed_actors:
                break
        else:
            assert answer.status_code in {500, 503}
            assert is_openai_error(answer)
            refused += answer.status_code == 503
            if answer.status_code == 503:
                assert int(answer.headers["retry-after"]) > 0
        assert time.monotonic() < end, f"not back within {RECOVERY_SECONDS} s"
        time.sleep(0.5)
    assert refused > 0, "the instance was replaced without ever being away"
    assert cut <= MOST_CUT, f"{cut} connections were closed without an answer"
    assert answer.json()["choices"][0]["token_ids"] == before


def complete_or_cut(deployer: Deployer) -> httpx.Response | None:
    """One request; None where the connection was closed without an answer."""
    try:
        return deployer.complete("The plan", 8)
    except httpx.RemoteProtocolError:
        return None


@pytest.mark.parametrize("victim", [worker_pid, engine_pid, replica_pid])
def test_a_killed_process_brings_the_whole_instance_back(
    deployer: Deployer, victim: Callable[[Deployer], int]
) -> None:
    deployer.deploy(PP2)
    before = deployer.complete("The plan", 8).json()["choices"][0]["token_ids"]
    old = {view.record.actor_id for view in deployer.observe().instances}
    processes = instance_processes(deployer)
    os.kill(victim(deployer), signal.SIGKILL)
    assert_recovers(deployer, before, old)
    wait_until(lambda: not [p for p in processes if p.is_running()], 20)


def instance_processes(deployer: Deployer) -> list[psutil.Process]:
    replica = psutil.Process(replica_pid(deployer))
    ranks = deployer.observe().instances[0].ranks
    workers = [ray._private.state.actors(rank.actor_id)["Pid"] for rank in ranks]
    return [replica, *replica.children(recursive=True), *map(psutil.Process, workers)]


def test_a_killed_node_moves_the_instance_and_status_says_what_is_missing(
    deployer: Deployer,
) -> None:
    deployer.deploy(PP2)
    deployer.cluster.add_node("node-3")
    before = deployer.complete("The plan", 8).json()["choices"][0]["token_ids"]
    [instance] = deployer.observe().instances
    names = {node.node_id: node.name for node in live_nodes()}
    lost = names[instance.ranks[1].node_id]

    deployer.cluster.kill_node(lost)
    assert_recovers(deployer, before, {instance.record.actor_id})
    [moved] = deployer.observe().instances
    assert lost not in {names.get(rank.node_id, "node-3") for rank in moved.ranks}

    other = names_now()[moved.ranks[1].node_id]
    deployer.cluster.kill_node(other)
    # Until Ray has noticed, what is missing is told of free GPUs; then of nodes.
    wait_until(
        lambda: "2 nodes per instance, 1 node" in deployer.observe().missing.get(APP, ""), 60
    )
    deployer.cluster.add_node(other)
    wait_until(lambda: deployer.complete("The plan", 8).status_code == 200, RECOVERY_SECONDS)


def names_now() -> dict[str, str]:
    return {node.node_id: node.name for node in live_nodes()}


def test_two_replicas_stand_on_different_gpus_and_deleting_frees_all(deployer: Deployer) -> None:
    args: dict[str, Any] = {
        "model": "tiny-llama",
        "num_replicas": 2,
        "engine": {"max_model_len": 512, "dtype": "float32"},
    }
    deployer.deploy(args)
    views = deployer.observe().instances
    assert len(views) == 2
    places = [(rank.node_id, rank.gpu) for view in views for rank in view.ranks]
    assert len(set(places)) == 2
    deployer.delete()
    assert deployer.gpus_free() == deployer.gpus_total()


@pytest.mark.long
def test_an_update_takes_over_the_gpus_of_the_instance_that_it_replaces(
    deployer: Deployer,
) -> None:
    args: dict[str, Any] = {
        "model": "tiny-llama",
        "layout": {"tp": 2, "pp": 2, "across": "nodes"},
        "engine": {"max_model_len": 512, "dtype": "float32"},
    }
    deployer.deploy(args)
    assert deployer.gpus_free() == 0
    deployer.deploy({**args, "engine": {"max_model_len": 256, "dtype": "float32"}}, update=True)
    [model] = httpx.get(f"{deployer.url}/v1/models").json()["data"]
    assert model["max_model_len"] == 256
    assert model["root"] == model["id"], "the node's folders are nobody's business"


def test_load_scales_from_one_instance_to_two_and_back(deployer: Deployer) -> None:
    deployer.deploy(
        {
            "model": "tiny-llama",
            "autoscaling": {
                "min_replicas": 1,
                "max_replicas": 2,
                "target_ongoing_requests": 2,
                "upscale_delay_s": 2,
                "downscale_delay_s": 5,
                "look_back_period_s": 4,
                "metrics_interval_s": 1,
            },
            "engine": {"max_model_len": 1024, "dtype": "float32"},
        }
    )
    assert len(deployer.observe().instances) == 1
    with Load(deployer, streams=8):
        wait_until(lambda: len(deployer.observe().instances) == 2, RECOVERY_SECONDS)
    wait_until(lambda: len(deployer.observe().instances) == 1, 120)
    assert deployer.complete("The plan", 8).status_code == 200


class Load:
    """`streams` clients that send one long request after another until the block ends."""

    def __init__(self, deployer: Deployer, streams: int) -> None:
        import threading

        self._deployer = deployer
        self._over = threading.Event()
        self.statuses: list[int] = []
        self.errors: list[httpx.HTTPError] = []
        self._threads = [threading.Thread(target=self._send) for _ in range(streams)]

    def _send(self) -> None:
        while not self._over.is_set():
            try:
                self.statuses.append(self._deployer.complete("The plan", 400).status_code)
            except httpx.HTTPError as error:
                self.errors.append(error)

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        assert set(self.statuses) == {200}
        assert self.errors == []
