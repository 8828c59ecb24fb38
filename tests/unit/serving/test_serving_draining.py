"""A replica that drains says so, and Serve's controller does not take it for one that runs."""

from __future__ import annotations

import asyncio
import inspect
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("ray", reason="the replica needs Ray")

from rayserve_par.serving import draining
from rayserve_par.serving import replica as replica_module
from rayserve_par.serving.draining import HELD_NAME, TOLD_NAME, actor_of_this_process, drains
from rayserve_par.serving.replica import ModelReplica


def actor(told: bool) -> Any:
    return SimpleNamespace(**{HELD_NAME: SimpleNamespace(**{TOLD_NAME: told})})


class Instance:
    """One that generates."""

    failed = False
    generated = 0

    async def generate_one_token(self) -> None:
        self.generated += 1

    def shutdown(self) -> None:
        """Nothing to end."""


def replica() -> ModelReplica:
    made = ModelReplica(SimpleNamespace())  # type: ignore[arg-type]
    made._instance = Instance()  # type: ignore[assignment]
    return made


@pytest.mark.parametrize("told", [False, True])
def test_who_drains_is_not_healthy_though_it_generates(
    told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica_module, "actor_of_this_process", lambda: actor(told))
    made = replica()
    if told:
        with pytest.raises(RuntimeError, match="drains"):
            asyncio.run(made.check_health())
    else:
        asyncio.run(made.check_health())
    # vLLM's own question is about the engine.
    asyncio.run(made._check_engine())
    assert made._instance.generated == 1  # type: ignore[union-attr]


def test_where_it_cannot_be_seen_a_replica_runs(caplog: pytest.LogCaptureFixture) -> None:
    assert actor_of_this_process() is None
    draining._warn.cache_clear()
    with caplog.at_level("WARNING", logger="ray.serve"):
        assert not drains(None)
        assert not drains(SimpleNamespace())
    assert len(caplog.records) == 1


def test_ray_has_the_names_that_are_used() -> None:
    from ray.serve._private import replica as serves

    assert f"self.{HELD_NAME}: Replica = " in inspect.getsource(serves.ReplicaActor)
    assert f"self.{TOLD_NAME} = False" in inspect.getsource(serves.Replica.__init__)
    told = inspect.getsource(serves.Replica._perform_graceful_shutdown)
    assert f"self.{TOLD_NAME} = True" in told


@pytest.mark.parametrize("healthy", [True, False])
def test_serve_recovers_only_what_is_healthy(healthy: bool) -> None:
    """The call of a controller that starts, to a replica that has long been initialized."""
    from ray.serve._private.replica import Replica

    async def answer() -> None:
        if not healthy:
            raise RuntimeError("drains")

    async def recover() -> Any:
        found: Any = Replica.__new__(Replica)
        found._user_callable_initialized = True
        found._user_callable_initialized_lock = asyncio.Lock()
        found._user_callable_wrapper = SimpleNamespace(call_user_health_check=answer)
        await found.initialize(None, None, None)
        return found

    if healthy:
        assert asyncio.run(recover())._healthy
    else:
        with pytest.raises(RuntimeError, match="drains"):
            asyncio.run(recover())
