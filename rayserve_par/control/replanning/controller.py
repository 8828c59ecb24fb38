"""The supervised controller: a Serve application without a route, of one replica and no CPU.

Serve restarts its replica wherever it dies; a thread of it looks at the cluster every few seconds.
A look that fails is logged and tried again; when none has succeeded for `_DEAD_SECONDS`, the health
check fails and Serve starts another replica.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, PositiveFloat, ValidationError, model_validator

from rayserve_par.control.decide.replan_settings import ReplanSettings
from rayserve_par.control.replanning.metrics import ReplanMetrics
from rayserve_par.control.replanning.replanner import Replanner
from rayserve_par.control.serve_client import ServeClient
from rayserve_par.errors import RefusedError
from rayserve_par.serving.strict_model import StrictModel

if TYPE_CHECKING:
    from ray.serve import Application

logger = logging.getLogger("ray.serve")
_DEAD_SECONDS = 300.0


class ControllerArgs(StrictModel):
    """The `args:` of `rayserve_par:build_controller`.

    look_seconds: between two looks. dry_run: decisions are only written down. replan: settings by
    the names of `ReplanSettings`.
    """

    _subject: ClassVar[str] = "the controller"
    look_seconds: PositiveFloat = 5.0
    dry_run: bool = False
    replan: dict[str, float | bool] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _settings_are_known(self) -> ControllerArgs:
        known = [field.name for field in fields(ReplanSettings)]
        for name in self.replan:
            if name not in known:
                raise ValueError(f"replan: unknown key {name!r}; valid keys: {', '.join(known)}")
        return self

    @property
    def settings(self) -> ReplanSettings:
        """Raises RefusedError for values that cannot be."""
        values: dict[str, Any] = dict(self.replan)
        return ReplanSettings(**values)


def controller_args(arguments: Mapping[str, Any]) -> ControllerArgs:
    """Check the controller's args.

    Raises:
        RefusedError: a key or value is not valid.
    """
    try:
        args = ControllerArgs.model_validate(dict(arguments))
    except ValidationError as error:
        lines = "\n".join(f"- {problem['msg']}" for problem in error.errors())
        raise RefusedError(f"The args of the controller are not valid:\n{lines}") from error
    args.settings  # noqa: B018 - refuses values that cannot be before anything starts
    return args


class ControllerReplica:
    """Looks and decides in a thread of its own until the process ends."""

    def __init__(self, args: ControllerArgs) -> None:
        self._look_seconds = args.look_seconds
        self._replanner = Replanner(
            ServeClient(), args.settings, time.time, args.dry_run, ReplanMetrics().count
        )
        self._looked = time.monotonic()
        threading.Thread(target=self._run, daemon=True, name="replan").start()

    def _run(self) -> None:
        last = ""
        while True:
            try:
                problems = [one.problem for one in self._replanner.look() if one.problem]
                self._looked = time.monotonic()
                problem = "; ".join(problems)
            except RefusedError as refusal:
                self._looked = time.monotonic()
                problem = str(refusal)
            except Exception as error:
                problem = f"{type(error).__name__}: {error}"
            if problem != last:
                logger.warning("Re-planning: %s", problem or "works again")
                last = problem
            time.sleep(self._look_seconds)

    def check_health(self) -> None:
        """Serve's health check.

        Raises:
            RuntimeError: no look has succeeded for too long.
        """
        idle = time.monotonic() - self._looked
        if idle > max(_DEAD_SECONDS, 3 * self._look_seconds):
            raise RuntimeError(f"No look at the cluster has succeeded for {idle:.0f} s.")


def build_controller(arguments: Mapping[str, Any]) -> Application:
    """Build the Serve application of the controller; `ControllerArgs` documents `args:`.

    Raises:
        RefusedError: the args are not valid.
    """
    from ray import serve

    args = controller_args(arguments)
    deployment = serve.deployment(ControllerReplica).options(
        name="controller",
        num_replicas=1,
        ray_actor_options={"num_cpus": 0},
        health_check_period_s=10,
        health_check_timeout_s=30,
        graceful_shutdown_timeout_s=5,
    )
    return deployment.bind(args)
