"""The scenarios of the suite, in the order in which one cluster goes through them."""

from __future__ import annotations

from typing import Any

from benchmarks.reliability import disturb
from benchmarks.reliability.load import Shape
from benchmarks.reliability.scenario import STREAMS, Scenario

# Of a process on this machine, whose death closes its connections; and of a node.
REPLICA_CUT_SECONDS = 2.0
NODE_CUT_SECONDS = 5.0
# One that says nothing and still takes connections may only be busy.
SILENT_CUT_SECONDS = 20.0
OVERLOAD_FACTOR = 5
_SLOTS = 8
# Without shedding it would be some 12 s: (80 - 16) streams wait for 16 places, each for about 3 s.
_OVERLOADED_TTFT_SECONDS = 1.0

SCENARIOS = (
    Scenario("steady", "nothing but the load", disturb.nothing, settle_seconds=20.0),
    Scenario(
        "engine",
        "kill -9 an engine process",
        disturb.kill_engine,
        cut_seconds=REPLICA_CUT_SECONDS,
        error_events=True,
    ),
    Scenario(
        "replica",
        "kill -9 a replica",
        disturb.kill_replica,
        cut_seconds=REPLICA_CUT_SECONDS,
    ),
    Scenario(
        "haproxy",
        "kill -9 HAProxy",
        disturb.kill_haproxy,
        cut_seconds=REPLICA_CUT_SECONDS,
        refusals=True,
    ),
    Scenario("proxy-actor", "kill -9 Serve's ProxyActor", disturb.kill_proxy_actor),
    Scenario("controller", "kill -9 Serve's controller", disturb.kill_controller),
    Scenario("rolling-update", "update that replaces every instance", disturb.rolling_update),
    Scenario("scale-down", "2 instances to 1", disturb.scale_down),
    # Streams of about a minute, on two cores: longer than Serve's and HAProxy's usual patience.
    Scenario(
        "scale-down-long",
        "2 instances to 1, streams of a minute",
        disturb.scale_down,
        # All that two instances let in at once; one holds half of it.
        streams=2 * STREAMS,
        shape=Shape(tokens=(1500, 1900)),
        refusals=True,
    ),
    Scenario("sigterm", "SIGTERM to a replica", disturb.terminate_replica),
    Scenario("drain", "Ray drains a node", disturb.drain_node),
    Scenario(
        "node",
        "kill -9 a node",
        disturb.kill_node,
        cut_seconds=NODE_CUT_SECONDS,
    ),
    Scenario(
        "silent-node",
        "a node goes silent (SIGSTOP)",
        disturb.silence_node,
        cut_seconds=SILENT_CUT_SECONDS,
    ),
    Scenario("haproxy-manager", "kill -9 HAProxy's manager", disturb.kill_haproxy_manager),
    Scenario(
        "overload",
        f"{OVERLOAD_FACTOR} times the streams that run at once",
        disturb.nothing,
        streams=OVERLOAD_FACTOR * STREAMS,
        settle_seconds=30.0,
        refusals=True,
        ttft_seconds=_OVERLOADED_TTFT_SECONDS,
        slots=_SLOTS,
    ),
    # An instance of one rank has no worker process, so this one has two.
    Scenario(
        "worker",
        "kill -9 a rank worker (TP2)",
        disturb.kill_worker,
        cut_seconds=REPLICA_CUT_SECONDS,
        error_events=True,
        shape=Shape(tokens=(40, 100)),
        tp=2,
    ),
)


def two_instances(tp: int = 1, slots: int | None = None) -> dict[str, Any]:
    """The arguments of the application under test: two instances of a tiny model."""
    engine = {"max_model_len": 2048, "dtype": "float32"}
    return {
        "model": "tiny-llama",
        "layout": {"tp": tp},
        "num_replicas": 2,
        "engine": engine if slots is None else {**engine, "max_num_seqs": slots},
    }


def scenarios_by_name(names: list[str]) -> tuple[Scenario, ...]:
    """The scenarios of these names, in the suite's order; all of them for no names.

    Raises:
        ValueError: one is unknown.
    """
    known = {scenario.name for scenario in SCENARIOS}
    unknown = sorted(set(names) - known)
    if unknown:
        raise ValueError(f"unknown: {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    return tuple(scenario for scenario in SCENARIOS if not names or scenario.name in names)
