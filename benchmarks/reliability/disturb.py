"""What is done to a cluster under load: parts killed with SIGKILL, drained, updated, overloaded.

Each returns when the harm was done and which replicas can never answer again, so that the time
until the others stand in their place can be told.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psutil

from benchmarks.reliability.bench import Bench

_DRAIN_SECONDS = 600
# Longer than a client waits for a byte (load.Shape).
_SILENT_SECONDS = 45.0


@dataclass(frozen=True, slots=True)
class Harm:
    """When it was done, the ids of the replicas that it ends, and the process that it killed."""

    at: float
    gone: frozenset[str] = frozenset()
    killed_actor: tuple[str, int] | None = None


def _ids(*replicas: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(str(replica["replica_id"]) for replica in replicas)


def _kill(pid: int) -> float:
    at = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    return at


def kill_worker(bench: Bench) -> Harm:
    """Kill the last rank of one instance."""
    victim = bench.running()[0]
    pid = bench.rank_pid(victim)
    return Harm(_kill(pid), _ids(victim))


def kill_engine(bench: Bench) -> Harm:
    """Kill the engine process of one instance."""
    victim = bench.running()[0]
    pid = bench.engine_pid(victim)
    return Harm(_kill(pid), _ids(victim))


def kill_replica(bench: Bench) -> Harm:
    """Kill the replica actor of one instance."""
    victim = bench.running()[0]
    return Harm(_kill(int(victim["pid"])), _ids(victim))


def kill_haproxy(bench: Bench) -> Harm:
    """Kill the HAProxy that takes the connections."""
    return Harm(_kill(bench.haproxy_pid()))


def _kill_actor(bench: Bench, class_name: str) -> Harm:
    pid = bench.actor_pid(class_name)
    return Harm(_kill(pid), killed_actor=(class_name, pid))


def kill_haproxy_manager(bench: Bench) -> Harm:
    """Kill Serve's actor that started HAProxy, and not HAProxy."""
    return _kill_actor(bench, "HAProxyManager")


def kill_proxy_actor(bench: Bench) -> Harm:
    """Kill Serve's own proxy, which stands behind HAProxy as its fallback."""
    return _kill_actor(bench, "ProxyActor")


def kill_controller(bench: Bench) -> Harm:
    """Kill Serve's controller."""
    return _kill_actor(bench, "ServeController")


def kill_node(bench: Bench) -> Harm:
    """Kill the daemons of one node, as a crash would, and add another node."""
    victim = bench.running()[0]
    name = bench.node_name(victim)
    at = time.monotonic()
    bench.cluster.kill_node(name)
    bench.replace_node(name)
    return Harm(at, _ids(victim))


def silence_node(bench: Bench) -> Harm:
    """Stop every process of one node, so that no connection is closed, as a lost network does.

    Its processes are killed once its streams' clients have lost their patience, and another node is
    added.
    """
    victim = bench.running()[0]
    name = bench.node_name(victim)
    processes = bench.node_processes(name)
    at = time.monotonic()
    for process in processes:
        _signal(process, signal.SIGSTOP)
    time.sleep(_SILENT_SECONDS)
    for process in processes:
        _signal(process, signal.SIGKILL)
    bench.cluster.kill_node(name)
    bench.replace_node(name)
    return Harm(at, _ids(victim))


def _signal(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


def terminate_replica(bench: Bench) -> Harm:
    """Send SIGTERM to one replica's process, as an operating system that shuts down does."""
    victim = bench.running()[0]
    at = time.monotonic()
    os.kill(int(victim["pid"]), signal.SIGTERM)
    return Harm(at, _ids(victim))


def drain_node(bench: Bench) -> Harm:
    """Add a node, and tell Ray to drain one that serves, as before maintenance."""
    import ray
    from ray.core.generated.autoscaler_pb2 import DrainNodeReason

    victim = bench.running()[0]
    bench.replace_node(bench.node_name(victim))
    client = ray._raylet.GcsClient(address=ray.get_runtime_context().gcs_address)
    at = time.monotonic()
    accepted, why_not = client.drain_node(
        victim["node_id"],
        DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION"),
        "reliability",
        (time.time_ns() // 10**6) + _DRAIN_SECONDS * 1000,
    )
    assert accepted, why_not
    return Harm(at, _ids(victim))


def rolling_update(bench: Bench) -> Harm:
    """Change an engine argument, so that every instance is replaced."""
    before = bench.running()
    engine = dict(bench.args["engine"])
    engine["max_model_len"] -= 16
    at = time.monotonic()
    bench.send_update({**bench.args, "engine": engine})
    return Harm(at, _ids(*before))


def scale_down(bench: Bench) -> Harm:
    """Ask for one instance less."""
    at = time.monotonic()
    bench.send_update(bench.args, scaled_to=bench.instances - 1)
    return Harm(at)


def nothing(_bench: Bench) -> Harm:
    """Only the load itself."""
    return Harm(time.monotonic())
