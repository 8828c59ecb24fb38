"""Starts and stops a Ray cluster of one head and several GPU nodes on this machine.

Each node is a real raylet with its own counted GPUs and labels; all share this machine's address,
so everything else keys on node ids. The head holds no GPU, so it is never part of an instance.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rayserve_par.cli.local import session as sessions
from rayserve_par.cli.local.ports import HOST, check_port, free_ports
from rayserve_par.cli.local.session import Session
from rayserve_par.errors import RefusedError
from rayserve_par.serving.cluster_view import GPU_LABEL

# Counted CPUs, not cores: replicas take one each, so that several fit on small machines.
_COUNTED_CPUS = 8
_OBJECT_STORE_BYTES = 100 * 2**20


@dataclass(slots=True)
class LocalCluster:
    """Context manager: a running cluster inside, nothing of it afterwards."""

    http_port: int
    nodes: int = 2
    gpus_per_node: int = 2
    gpu_kind: str = "logical-cpu"
    session: Session | None = None
    worker_nodes: dict[str, Any] = field(default_factory=dict)
    _cluster: Any = None
    _saved_environment: dict[str, str | None] = field(default_factory=dict)

    def start(self, on_head: Callable[[Session], None] = lambda _: None) -> Session:
        """Start the head and the nodes; on failure everything is stopped again.

        `on_head` is called when the head answers and the nodes are still to come.

        Raises:
            RefusedError: the port is busy, the disk is full, or a node did not start in time.
        """
        sessions.sweep_dead_sessions()
        check_port(self.http_port)
        folder = sessions.make_folder()
        name = sessions.session_name()
        dashboard_port, gcs_port = free_ports(2)
        self.session = Session(
            name=name,
            owner_pid=os.getpid(),
            owner_started=sessions.own_start_time(),
            folder=str(folder),
            gcs_address=f"{HOST}:{gcs_port}",
            dashboard_url=f"http://{HOST}:{dashboard_port}",
            http_port=self.http_port,
        )
        sessions.write_session(self.session)
        self._set_environment(sessions.cluster_environment(name, folder))
        try:
            self._start_head(folder, gcs_port, dashboard_port)
            on_head(self.session)
            for index in range(self.nodes):
                self.add_node(f"node-{index + 1}")
        except BaseException:
            self.stop()
            raise
        return self.session

    def _start_head(self, folder: Path, gcs_port: int, dashboard_port: int) -> None:
        sessions.use_loopback()
        from ray.cluster_utils import Cluster

        ray_folder = folder / "ray"
        ray_folder.mkdir()
        with _no_dashboard_yet(), _readable_start():
            self._cluster = Cluster(
                initialize_head=True,
                head_node_args={
                    "node_name": "head",
                    "node_ip_address": HOST,
                    "gcs_server_port": gcs_port,
                    "num_cpus": _COUNTED_CPUS,
                    "num_gpus": 0,
                    "temp_dir": str(ray_folder),
                    "include_dashboard": True,
                    "dashboard_host": HOST,
                    "dashboard_port": dashboard_port,
                    "dashboard_agent_listen_port": 0,
                    "object_store_memory": _OBJECT_STORE_BYTES,
                },
            )

    def start_dashboard(self) -> None:
        """Start the dashboard, which takes seconds and which nothing of ours waits for.

        Ray's own commands need it, and Prometheus finds the nodes through a file that it writes.
        """
        self._cluster.head_node.start_api_server(include_dashboard=True, raise_on_failure=True)

    def add_node(self, name: str, gpu_kind: str | None = None) -> None:
        """Add one GPU node and wait until Ray knows it; of the cluster's kind unless told.

        Raises:
            RefusedError: it did not start in the time that Ray allows.
        """
        with _readable_start():
            self.worker_nodes[name] = self._cluster.add_node(
                node_name=name,
                node_ip_address=HOST,
                num_cpus=_COUNTED_CPUS,
                num_gpus=self.gpus_per_node,
                labels={GPU_LABEL: gpu_kind or self.gpu_kind},
                object_store_memory=_OBJECT_STORE_BYTES,
            )

    def kill_node(self, name: str) -> None:
        """Kill one node's processes as a power failure would."""
        self._cluster.remove_node(self.worker_nodes.pop(name), allow_graceful=False)

    def stop(self) -> None:
        """Stop every process of the cluster and delete its folder; safe to call twice."""
        if self.session is None:
            return
        import ray

        ray.shutdown()
        if self._cluster is not None:
            self._cluster.shutdown()
        sessions.kill_session(self.session.name)
        shutil.rmtree(self.session.folder, ignore_errors=True)
        sessions.forget_session(self.session.name)
        self._restore_environment()
        self.session = None
        self._cluster = None

    def _set_environment(self, variables: dict[str, str]) -> None:
        for key, value in variables.items():
            self._saved_environment[key] = os.environ.get(key)
            os.environ[key] = value

    def _restore_environment(self) -> None:
        for key, value in self._saved_environment.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value
        self._saved_environment.clear()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


@contextmanager
def _readable_start() -> Iterator[None]:
    """Say what a node that starts too slowly means; Ray's own limit is fixed in its source.

    Raises:
        RefusedError: Ray gave up on the node (ray/_private/node.py, release 2.60).
    """
    try:
        yield
    except Exception as error:
        if "timed out during startup" not in str(error):
            raise
        load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
        raise RefusedError(
            f"A Ray node did not start within the 30 s that Ray allows. This machine has "
            f"{os.cpu_count()} cores and a load of {load} (1, 5, 15 minutes): where others keep it "
            "busy, stop them or try again later. Otherwise its disk or memory is full."
        ) from error


@contextmanager
def _no_dashboard_yet() -> Iterator[None]:
    """Let a head node start without waiting for its dashboard."""
    from ray._private.node import Node

    def skip(_node: Node, **_: Any) -> None:
        return

    start = Node.start_api_server
    Node.start_api_server = skip
    try:
        yield
    finally:
        Node.start_api_server = start
