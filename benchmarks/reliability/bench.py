"""The cluster under test: one application of ours on a local Ray cluster, and its processes.

Processes are found in Ray's own tables and below them, never by a name in the machine's process
list, so that nothing of another cluster is ever touched.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

from benchmarks.reliability.haproxy import ask_admin, running_pid, servers_up
from rayserve_par.cli.bring_up import bring_up, wait_for_front
from rayserve_par.cli.connect import connect
from rayserve_par.cli.local.cluster import LocalCluster
from rayserve_par.cli.local.ports import HOST, free_ports
from rayserve_par.control.config_file import IMPORT_PATH, ConfiguredApp, ServeConfig
from rayserve_par.control.observe import living_instances
from rayserve_par.control.serve_client import ServeClient
from rayserve_par.serving.config import parse_args

APP = "reliability"
_POLL_SECONDS = 0.5


@dataclass(slots=True)
class Bench:
    """An application of two instances on a running local cluster."""

    cluster: LocalCluster
    console: Console = field(default_factory=lambda: Console(highlight=False))
    client: ServeClient = field(default_factory=ServeClient)
    app: str = APP
    args: Mapping[str, Any] = field(default_factory=dict)
    scaled_to: int | None = None

    @property
    def url(self) -> str:
        """Where the front answers."""
        return f"http://{HOST}:{self._session.http_port}"

    @property
    def model(self) -> str:
        """The name that requests carry."""
        return parse_args(self.args, self.app).public_name

    @property
    def instances(self) -> int:
        """How many instances the application wants."""
        wanted = self.scaled_to or self.args.get("num_replicas", 1)
        assert isinstance(wanted, int), "these applications set a number"
        return wanted

    @property
    def _session(self) -> Any:
        assert self.cluster.session is not None, "the cluster runs"
        return self.cluster.session

    # What is deployed

    def document(self) -> dict[str, Any]:
        """The Serve config of the application.

        Another number of instances is an option of the deployment: other `args` are other code to
        Serve, which replaces every instance then.
        """
        scaled = [{"name": "instance", "num_replicas": self.scaled_to}] if self.scaled_to else []
        return {
            "proxy_location": "HeadOnly",
            "http_options": {"host": HOST, "port": self._session.http_port},
            "applications": [
                {
                    "name": self.app,
                    "route_prefix": "/",
                    "import_path": IMPORT_PATH,
                    "args": dict(self.args),
                    "deployments": scaled,
                }
            ],
        }

    def deploy(self, args: Mapping[str, Any]) -> None:
        """Make the application that of `args`, and wait until it answers."""
        self.args, self.scaled_to = dict(args), None
        app = ConfiguredApp(self.app, "/", parse_args(args, self.app), {})
        bring_up(
            self.console,
            self.client,
            ServeConfig(Path(__file__), self.document(), (app,)),
            self.document(),
        )
        wait_for_front(self.console, self.url, app)

    def send_update(self, args: Mapping[str, Any], scaled_to: int | None = None) -> None:
        """Tell Serve of other arguments or another number of instances, and wait for nothing."""
        self.args, self.scaled_to = dict(args), scaled_to
        self.client.deploy(self.document())

    # What serves

    def replicas(self) -> tuple[Mapping[str, Any], ...]:
        """Replicas that Serve knows, with their `state`, `replica_id`, `pid` and `node_id`."""
        state = self.client.app(self.app)
        return () if state is None else state.replicas

    def running(self) -> tuple[Mapping[str, Any], ...]:
        """Replicas that Serve calls running, in a fixed order."""
        running = [replica for replica in self.replicas() if replica["state"] == "RUNNING"]
        return tuple(sorted(running, key=lambda replica: str(replica["replica_id"])))

    def admin_socket(self) -> Path:
        """HAProxy's admin socket; it is under the id of its node.

        Raises:
            FileNotFoundError: there is none yet.
        """
        sockets = sorted(Path(self._session.folder, "haproxy").glob("*/admin.sock"))
        if not sockets:
            raise FileNotFoundError(f"no admin socket below {self._session.folder}")
        return sockets[0]

    def haproxy_pid(self) -> int:
        """The HAProxy that takes new connections now."""
        return running_pid(ask_admin(self.admin_socket(), "show info"))

    def serving(self, gone: frozenset[str] = frozenset()) -> bool:
        """Whether every wanted instance runs, none of them is of `gone`, and HAProxy has it up."""
        replicas = self.replicas()
        ids = {str(replica["replica_id"]) for replica in replicas}
        states = {str(replica["state"]) for replica in replicas}
        if len(replicas) != self.instances or states != {"RUNNING"} or ids & gone:
            return False
        up = servers_up(ask_admin(self.admin_socket(), "show stat"))
        return len(up) == len(ids) and all(any(name.endswith(i) for name in up) for i in ids)

    def replaced(self, killed_actor: tuple[str, int] | None) -> bool:
        """Whether an actor of the killed one's class lives, in another process."""
        return killed_actor is None or self.actor_pid(killed_actor[0]) != killed_actor[1]

    def wait_until_serving(
        self,
        seconds: float,
        gone: frozenset[str] = frozenset(),
        killed_actor: tuple[str, int] | None = None,
    ) -> bool:
        """Wait for `serving(gone)` and `replaced(killed_actor)`; whether it came true in time."""
        from ray.exceptions import RayError

        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if self.replaced(killed_actor) and self.serving(gone):
                    return True
            except (RayError, OSError, ValueError):
                pass  # the controller, an actor or HAProxy is away
            time.sleep(_POLL_SECONDS)
        return False

    # Processes

    def engine_pid(self, replica: Mapping[str, Any]) -> int:
        """The engine process of a replica, its child."""
        children = psutil.Process(int(replica["pid"])).children(recursive=True)
        [engine] = [child.pid for child in children if "EngineCore" in " ".join(child.cmdline())]
        return engine

    def rank_pid(self, replica: Mapping[str, Any]) -> int:
        """The process of the last rank of a replica's instance."""
        views = [v for v in living_instances() if v.record.replica_id == replica["replica_id"]]
        [view] = views
        return self._actor_pid(lambda actor: actor["ActorID"] == view.ranks[-1].actor_id)

    def actor_pid(self, class_name: str) -> int:
        """The process of Serve's one living actor of this class."""
        return self._actor_pid(lambda actor: actor["ActorClassName"] == class_name)

    def _actor_pid(self, chosen: Callable[[Mapping[str, Any]], bool]) -> int:
        import ray

        actors = ray._private.state.actors().values()
        [pid] = [a["Pid"] for a in actors if a["State"] == "ALIVE" and chosen(a)]
        return int(pid)

    def node_name(self, replica: Mapping[str, Any]) -> str:
        """The cluster's name of the node that a replica is on."""
        for name, node in self.cluster.worker_nodes.items():
            if node.node_id == replica["node_id"]:
                return name
        raise LookupError(f"no node {replica['node_id']} in {list(self.cluster.worker_nodes)}")

    def node_processes(self, name: str) -> list[psutil.Process]:
        """Every process of a node: its daemons and what they started."""
        daemons = self.cluster.worker_nodes[name].live_processes()
        top = [psutil.Process(process.pid) for _, process in daemons]
        return [*top, *(child for p in top for child in p.children(recursive=True))]

    def replace_node(self, lost: str) -> str:
        """Add a node as an autoscaler would after one was lost; its name."""
        number = 1 + max(int(name.rsplit("-", 1)[-1]) for name in [*self.names(), lost])
        self.cluster.add_node(f"node-{number}")
        return f"node-{number}"

    def names(self) -> list[str]:
        """The names of the GPU nodes."""
        return list(self.cluster.worker_nodes)


@contextmanager
def start_bench(console: Console, *, nodes: int = 2, gpus_per_node: int = 1) -> Iterator[Bench]:
    """A local cluster without an application; nothing of it afterwards."""
    [port] = free_ports(1)
    cluster = LocalCluster(http_port=port, nodes=nodes, gpus_per_node=gpus_per_node)
    try:
        session = cluster.start()
        connect(session.gcs_address)
        yield Bench(cluster, console)
    finally:
        cluster.stop()
