"""What a replica is told at its creation: a plan, a placement and the engine's arguments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rayserve_par.placement.bundles import Placement
from rayserve_par.planning.plan import Plan
from rayserve_par.serving.admission.args import AdmissionArgs
from rayserve_par.serving.mock_engine.times import EngineTimes


@dataclass(frozen=True, slots=True)
class ReplicaSpec:
    """Everything one replica needs; pickled into Serve's deployment.

    `model_path` is what vLLM loads (folder or hub id), `served_model_name` what clients ask for,
    `aliases` its further names, `node_group` the nodes that the application is pinned to (None
    without), `admission` what it lets through, `mock` the times of a mock engine in vLLM's place,
    `cpu_ranks` whether the ranks are CPU processes, `worker_env` variables for every rank.
    """

    model_path: str
    served_model_name: str
    plan: Plan
    placement: Placement
    aliases: tuple[str, ...] = ()
    node_group: str | None = None
    admission: AdmissionArgs = field(default_factory=AdmissionArgs)
    mock: EngineTimes | None = None
    cpu_ranks: bool = False
    engine: Mapping[str, Any] = field(default_factory=dict)
    worker_env: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """All that clients may ask for, the first name first."""
        return (self.served_model_name, *self.aliases)

    @property
    def full_requests_per_second(self) -> float:
        """What a full instance is predicted to serve; the mock's own figure where there is one."""
        workload = self.plan.workload
        if self.mock is not None:
            return self.mock.full_requests_per_second(workload.isl, workload.osl)
        return self.plan.point.requests_per_second

    @property
    def single_rank(self) -> bool:
        """Whether the instance is one rank, which then runs in the replica's own engine process."""
        return self.plan.layout.gpus == 1
