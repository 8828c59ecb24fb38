"""An application and the controller on the real cluster, and clients that stream meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

import httpx

from rayserve_par.control.decide.replan_events import ReplanEvent
from rayserve_par.control.live.store import read_replan
from rayserve_par.control.observe import living_instances
from rayserve_par.control.replanning.record import ReplanRecord
from rayserve_par.serving.cluster_view import live_nodes
from tests.e2e.conftest import APP, Deployer
from tests.e2e.waiting import wait_until

CONTROLLER = "controller"
# A client that is not answered asks again after so long.
_AGAIN_SECONDS = 0.1
REPLAN = {
    "settle_seconds": 3.0,
    "lost_settle_seconds": 2.0,
    "least_interval_seconds": 0.0,
    "trial_seconds": 5.0,
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

    def deploy(
        self,
        args: Mapping[str, Any],
        *,
        controller: Mapping[str, Any] | None = None,
        supervised: bool = True,
    ) -> None:
        """`controller` are args of it beside `REPLAN`'s; not `supervised` is without it."""
        self._before = self.record.log.counted
        document = self.deployer.document(args)
        if supervised:
            document["applications"].append(
                {
                    "name": CONTROLLER,
                    "route_prefix": None,
                    "import_path": "rayserve_par:build_controller",
                    "args": {"look_seconds": 0.5, "replan": REPLAN, **(controller or {})},
                }
            )
        self.deployer.client.deploy(document)
        for name in [one["name"] for one in document["applications"]]:
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
        """What was carried out since it was deployed, oldest first."""
        return [one for one in self.decided() if one.carried_out]

    def decided(self) -> list[ReplanEvent]:
        """What was decided since it was deployed, carried out or not, oldest first."""
        return [one for one in self.record.log.events if one.number > self._before]

    def replica(self, app: str) -> Mapping[str, Any]:
        [replica] = self.replicas(app)
        return replica

    def replicas(self, app: str) -> tuple[Mapping[str, Any], ...]:
        state = self.deployer.client.app(app)
        return () if state is None else state.replicas


class Streams:
    """Clients that stream one answer after another; what does not end with [DONE] is lost.

    `lost` says of each when it began, in seconds since the block did, and what came.
    """

    def __init__(self, url: str, streams: int = 4, tokens: int = 50) -> None:
        self._url, self._tokens = url, tokens
        self._begun = time.monotonic()
        self._over = threading.Event()
        self.whole = 0
        self.lost: list[str] = []
        self._threads = [threading.Thread(target=self._send) for _ in range(streams)]

    def _send(self) -> None:
        body = {
            "model": "tiny-llama", "prompt": "The plan", "max_tokens": self._tokens, "stream": True,
        }  # fmt: skip
        while not self._over.is_set():
            at = f"{time.monotonic() - self._begun:.1f} s"
            try:
                with httpx.stream(
                    "POST", f"{self._url}/v1/completions", json=body, timeout=60
                ) as answer:
                    text = "".join(answer.iter_text())
            except httpx.HTTPError as error:
                self.lost.append(f"{at}: {error!r}")
                time.sleep(_AGAIN_SECONDS)
                continue
            if answer.status_code == 200 and "[DONE]" in text:
                self.whole += 1
            else:
                self.lost.append(f"{at}: {answer.status_code}: {text[-200:]}")
                time.sleep(_AGAIN_SECONDS)

    def __enter__(self) -> Streams:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
