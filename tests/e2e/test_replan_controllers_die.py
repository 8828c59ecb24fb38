"""Serve's controller and the re-planner die together in the middle of `one_by_one`, under load.

Some streams last longer than Serve's controller is away, so that what drained before drains still;
others are short, so that whoever has no instance to go to is seen at once.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import ray
from ray.exceptions import RayError

from rayserve_par.control.live import store
from rayserve_par.control.live.records import NO_OVERRIDE, Override
from tests.e2e.conftest import APP, Deployer
from tests.e2e.controlled import CONTROLLER, Controlled, Streams
from tests.e2e.timeline import Timeline
from tests.e2e.waiting import wait_until

pytestmark = [pytest.mark.engine, pytest.mark.long]

SECONDS = 180
LONG_TOKENS = 600
ARGS: dict[str, Any] = {
    "model": "tiny-llama",
    "target": "latency",
    "num_replicas": 2,
    "replanned": {"pp": 2, "instances": 2},
    "drain_timeout_s": 60.0,
    "mock_engine": {"step_base_seconds": 0.02, "answer_tokens": LONG_TOKENS},
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


def kill_serves_controller() -> None:
    from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE

    actor = ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
    os.kill(int(ray._private.state.actors(actor._actor_id.hex())["Pid"]), signal.SIGKILL)


def decided(app: Controlled, old: frozenset[str]) -> bool:
    """The change is written down; Serve has perhaps been told, and has stopped nothing."""
    return app.acted() == ["change"] and states(app, old) == ["RUNNING", "RUNNING"]


def first_drains(app: Controlled, old: frozenset[str]) -> bool:
    """One of the old instances has just been told to drain."""
    return "STOPPING" in states(app, old)


def next_waits(app: Controlled, old: frozenset[str]) -> bool:
    """One of the old instances drains, and Ray has an actor that waits for its GPUs."""
    actors = [str(one["name"]) for one in ray.util.list_named_actors(all_namespaces=True)]
    new = {str(one["replica_id"]) for one in app.replicas(APP)} - old
    return first_drains(app, old) and any(name.endswith(one) for name in actors for one in new)


def first_starts(app: Controlled, old: frozenset[str]) -> bool:
    """A new instance starts where an old one was."""
    found = {str(one["replica_id"]) for one in app.replicas(APP)}
    return len(found & old) == 1 and bool(found - old)


def second_drains(app: Controlled, old: frozenset[str]) -> bool:
    """One is exchanged, the other one drains."""
    return states(app, old) == ["STOPPING"]


def states(app: Controlled, ids: frozenset[str]) -> list[str]:
    return [str(one["state"]) for one in app.replicas(APP) if one["replica_id"] in ids]


MOMENTS = [decided, first_drains, next_waits, first_starts, second_drains]


@pytest.mark.parametrize("moment", MOMENTS)
def test_no_request_is_lost(
    full: Controlled, moment: Callable[[Controlled, frozenset[str]], bool]
) -> None:
    store.write_override(APP, Override(paused=True))
    full.deploy(ARGS)
    old = frozenset(str(one["replica_id"]) for one in full.replicas(APP))
    url = full.deployer.url
    with Timeline(full) as timeline, Streams(url, tokens=LONG_TOKENS) as long, Streams(url) as load:
        store.write_override(APP, NO_OVERRIDE)
        wait_until(lambda: moment(full, old), SECONDS, every=0.1)
        os.kill(int(full.replica(CONTROLLER)["pid"]), signal.SIGKILL)
        kill_serves_controller()
        timeline.note(f"both killed ({moment.__name__})")
        wait_until(lambda: rolled_out(full), SECONDS)
    lost = long.lost + load.lost
    print(f"{long.whole + load.whole} answered, {len(lost)} lost")
    assert not lost, "\n".join(lost)
    assert long.whole > 0
    assert load.whole > 0
    assert [str(one.decision.way) for one in full.events() if one.decision.way] == ["one_by_one"]


def rolled_out(app: Controlled) -> bool:
    try:
        return app.acted() == ["change", "count"] and app.layouts == ["TP2", "TP2"]
    except RayError:  # Serve's controller is away
        return False
