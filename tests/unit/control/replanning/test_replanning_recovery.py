"""What Serve's next controller does in its first tick, by Serve's own code (Ray 2.60).

A controller that starts in the middle of `one_by_one` finds the old replica that drains, the others
that serve and the new one that waits, and knows none of this: all of them recover.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("ray", reason="Serve's own code is asked")

from ray.serve._private.common import ReplicaState
from ray.serve._private.config import DeploymentConfig
from ray.serve._private.deployment_state import DeploymentState, ReplicaStateContainer
from ray.serve._private.version import DeploymentVersion

from rayserve_par.control.decide.change_way import Step, Way, first_step
from tests.unit.control.decide.replan_cases import TP2

OLD, NEW = "old", "new"


def version_of(code: str) -> DeploymentVersion:
    return DeploymentVersion(code, DeploymentConfig(), {})


class Found:
    """A replica as the controller has it."""

    def __init__(self, name: str, version: str) -> None:
        self.replica_id, self.version = name, version_of(version)
        self.actor_details = SimpleNamespace(state=None)

    def update_state(self, state: ReplicaState) -> None:
        self.actor_details.state = state


def deployment(step: Step, replicas: dict[str, tuple[str, ReplicaState]]) -> Any:
    """Serve's own, with `replicas` by name: version and state."""
    made: Any = DeploymentState.__new__(DeploymentState)
    config = DeploymentConfig(
        max_surge_percent=step.max_surge_percent,
        rolling_update_percentage=step.rolling_update_percentage,
    )
    made._target_state = SimpleNamespace(
        target_num_replicas=step.instances,
        version=version_of(NEW),
        info=SimpleNamespace(deployment_config=config),
        deleting=False,
        rolling_update=True,
        rolling_update_failed=False,
    )
    made._replica_has_started = False
    made._replica_failure_count = 0
    made._deployment_actor_failed = None
    made._replicas = ReplicaStateContainer()
    for name, (version, state) in replicas.items():
        made._replicas.add(state, Found(name, version))
    return made


def removed(made: Any) -> int:
    """How many it stops in a tick: by the plain count, or as old ones of a surge."""
    if made._surge_rollout_in_progress():
        return len(made._surge_replicas_to_stop())
    return max(0, -made._get_target_replica_delta())


def one_by_one(running: int, *, sets_number: bool) -> Step:
    return first_step(Way.ONE_BY_ONE, running, TP2, running, sets_number=sets_number)


@pytest.mark.parametrize("running", [2, 3, 8])
def test_where_all_recover_a_surge_removes_nothing(running: int) -> None:
    # To a controller that starts all have the version that is wanted, until they have answered.
    found = {str(n): (NEW, ReplicaState.RECOVERING) for n in range(running + 1)}
    ours = deployment(one_by_one(running, sets_number=True), found)
    assert (removed(ours), ours._surge_replicas_to_start()) == (0, 0)
    # This is what a surge is for: one of them, whichever it is.
    assert removed(deployment(one_by_one(running, sets_number=False), found)) == 1


@pytest.mark.parametrize("running", [2, 3, 8])
@pytest.mark.parametrize("drains_as", [ReplicaState.RECOVERING, ReplicaState.STOPPING])
def test_where_those_that_serve_have_answered_none_is_stopped(
    running: int, drains_as: ReplicaState
) -> None:
    found = {str(n): (OLD, ReplicaState.RUNNING) for n in range(1, running)}
    found |= {"drains": (NEW, drains_as), "waits": (NEW, ReplicaState.RECOVERING)}
    assert removed(deployment(one_by_one(running, sets_number=True), found)) == 0


@pytest.mark.parametrize("running", [2, 3, 8])
def test_one_that_drains_and_does_not_say_so_costs_one_that_serves(running: int) -> None:
    """Why a replica that drains refuses."""
    found = {str(n): (OLD, ReplicaState.RUNNING) for n in range(running)}
    found |= {"waits": (NEW, ReplicaState.STARTING)}
    assert removed(deployment(one_by_one(running, sets_number=True), found)) == 1


def test_once_one_drains_the_next_waits_for_its_place() -> None:
    step = one_by_one(3, sets_number=True)
    made = deployment(step, {str(n): (OLD, ReplicaState.RUNNING) for n in range(3)})
    assert (removed(made), made._surge_replicas_to_start()) == (1, 0)
    found = {str(n): (OLD, ReplicaState.RUNNING) for n in range(2)}
    made = deployment(step, {**found, "drains": (OLD, ReplicaState.STOPPING)})
    assert (removed(made), made._surge_replicas_to_start()) == (0, 1)
