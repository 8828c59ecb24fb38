"""The arguments of `rayserve_par:build_app`: what a Serve config may say under `args:`.

Strict: an unknown key is refused with the nearest valid name, and an engine argument that the
layout or the front door owns is refused with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from rayserve_par.errors import RefusedError
from rayserve_par.planning.plan import default_workload
from rayserve_par.planning.request import LayoutRequest, Target, Workload
from rayserve_par.serving.admission.args import AdmissionArgs
from rayserve_par.serving.autoscaling_args import AutoscalingArgs, ScalingPolicy
from rayserve_par.serving.mock_engine.times import EngineTimes
from rayserve_par.serving.strict_model import StrictModel

# Pods get a little more to end in, and `delete` waits a little longer.
LONGEST_DRAIN_SECONDS = 600.0

_LAYOUT = "the layout decides it; set layout: {tp, pp, dp, ep} instead"
_PLACEMENT = "rayserve-par places the ranks itself"
_FRONT = "Ray Serve owns the HTTP front; use http_options of the Serve config"
_NAME = "set the key of the same meaning beside engine:"

OWNED_ENGINE_ARGUMENTS: Mapping[str, str] = {
    "model": f"{_NAME}: model",
    "served_model_name": f"{_NAME}: served_model_name",
    "tensor_parallel_size": _LAYOUT,
    "pipeline_parallel_size": _LAYOUT,
    "data_parallel_size": _LAYOUT,
    "enable_expert_parallel": _LAYOUT,
    "prefill_context_parallel_size": _LAYOUT,
    "decode_context_parallel_size": _LAYOUT,
    "data_parallel_rank": _PLACEMENT,
    "data_parallel_start_rank": _PLACEMENT,
    "data_parallel_size_local": _PLACEMENT,
    "data_parallel_address": _PLACEMENT,
    "data_parallel_rpc_port": _PLACEMENT,
    "data_parallel_backend": _PLACEMENT,
    "data_parallel_hybrid_lb": _PLACEMENT,
    "data_parallel_external_lb": _PLACEMENT,
    "distributed_executor_backend": _PLACEMENT,
    "master_addr": _PLACEMENT,
    "master_port": _PLACEMENT,
    "nnodes": _PLACEMENT,
    "node_rank": _PLACEMENT,
    "worker_cls": _PLACEMENT,
    "api_server_count": "one replica is one server; set num_replicas or autoscaling",
    "headless": _PLACEMENT,
    "disable_log_stats": "metrics and the proof of health need them",
    "host": _FRONT,
    "port": _FRONT,
    "uds": _FRONT,
    "ssl_keyfile": _FRONT,
    "ssl_certfile": _FRONT,
    "ssl_ca_certs": _FRONT,
    "root_path": _FRONT,
}


class LayoutArgs(StrictModel):
    """An explicit layout. `across: nodes` puts each TP group on a node of its own."""

    _subject: ClassVar[str] = "layout"
    tp: PositiveInt = 1
    pp: PositiveInt = 1
    dp: PositiveInt = 1
    ep: PositiveInt = 1
    across: Literal["auto", "nodes"] = "auto"

    def request(self) -> LayoutRequest:
        """The same as the planner's request."""
        return LayoutRequest(tp=self.tp, pp=self.pp, dp=self.dp, ep=self.ep, across=self.across)


class WorkloadArgs(StrictModel):
    """The requests that are planned for: tokens in and out, a second's requests, and limits."""

    _subject: ClassVar[str] = "workload"
    isl: PositiveInt | None = None
    osl: PositiveInt | None = None
    rate: PositiveFloat | None = None
    ttft_ms: PositiveFloat | None = None
    tpot_ms: PositiveFloat | None = None

    def workload(self, longest: int) -> Workload:
        """As the planner takes it; lengths that are not set are its defaults up to `longest`."""
        usual = default_workload(longest)
        return Workload(
            isl=self.isl or usual.isl,
            osl=self.osl or usual.osl,
            requests_per_second=self.rate,
            ttft_seconds=None if self.ttft_ms is None else self.ttft_ms / 1e3,
            tpot_seconds=None if self.tpot_ms is None else self.tpot_ms / 1e3,
        )


class ReplannedArgs(LayoutArgs):
    """What the re-planner chose where `layout` is auto; it writes this, people need not.

    `nodes` are those that it was chosen for, by GPUs and kind: "8xH200".
    """

    _subject: ClassVar[str] = "replanned"
    nodes: str | None = None
    instances: PositiveInt = 1


class AppArgs(StrictModel):
    """One model, how it is laid out and how many instances serve it.

    model: a folder, a hub id, or a built-in name (`rayserve-par models`).
    replanned: the controller's choice while layout is auto; see docs/replanning.md.
    hardware: what `plan` assumes without a cluster, e.g. "2x8xH200"; a live cluster's own nodes
        always win.
    node_group: the nodes that the instances keep to, by their kind of GPU, e.g. "H200". Several
        applications of one name, each with a node group of its own, are one pool: the front
        chooses among the instances of all.
    workload: what is served, for the planner's predictions and limits.
    aliases: further names that clients may ask for.
    num_replicas: a number, or "fit" for as many instances as the cluster holds at deployment;
        without it as many as carry workload.rate, or 1.
    admission: API keys, limits and bounds of requests; see docs/admission.md.
    drain_timeout_s: how long an instance that is to stop may finish what it has begun.
    engine: vLLM's engine and server arguments by their Python names.
    mock_engine: an engine with these set times in vLLM's place, to try what is around it; other
        ones for some layouts under by_layout.
    """

    model: str = Field(min_length=1)
    served_model_name: str | None = None
    aliases: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    layout: Literal["auto"] | LayoutArgs = "auto"
    replanned: ReplannedArgs | None = None
    target: Target = Target.BALANCED
    hardware: str | None = None
    node_group: str | None = Field(default=None, min_length=1)
    workload: WorkloadArgs | None = None
    num_replicas: PositiveInt | Literal["fit"] | None = None
    autoscaling: AutoscalingArgs | None = None
    kv_allowance: PositiveFloat = 1.8
    max_ongoing_requests: PositiveInt = 4096
    admission: AdmissionArgs = AdmissionArgs()
    drain_timeout_s: float = Field(default=600.0, gt=0, le=LONGEST_DRAIN_SECONDS)
    engine: dict[str, Any] = Field(default_factory=dict)
    mock_engine: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _one_way_to_count(self) -> Self:
        if self.num_replicas is not None and self.autoscaling is not None:
            raise ValueError("num_replicas and autoscaling exclude each other; set one of them")
        return self

    @model_validator(mode="after")
    def _autoscaling_suits_the_workload(self) -> Self:
        if self.autoscaling is not None:
            self.autoscaling.policy_for(limits_set=self._has_limits)
        return self

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        for name in self.aliases:
            if self.public_names.count(name) > 1:
                raise ValueError(f"aliases: {name!r} is a name of this model already")
        return self

    @model_validator(mode="after")
    def _one_layout(self) -> Self:
        if self.replanned is not None and self.layout != "auto":
            raise ValueError("replanned goes with layout: auto only; leave one of them out")
        return self

    @model_validator(mode="after")
    def _mock_engine_is_possible(self) -> Self:
        if self.mock_engine is not None:
            if self.engine:
                raise ValueError("engine and mock_engine exclude each other; set one of them")
            try:
                EngineTimes.from_mapping(self.mock_engine)
            except RefusedError as refusal:
                raise ValueError(f"mock_engine: {refusal}") from refusal
        return self

    @model_validator(mode="after")
    def _engine_owns_its_own(self) -> Self:
        for key in self.engine:
            if key in OWNED_ENGINE_ARGUMENTS:
                raise ValueError(f"engine.{key} is refused: {OWNED_ENGINE_ARGUMENTS[key]}")
        return self

    @property
    def _has_limits(self) -> bool:
        found = self.workload
        return found is not None and found.ttft_ms is not None and found.tpot_ms is not None

    @property
    def scaling_policy(self) -> ScalingPolicy | None:
        """The scaling policy in force; None without autoscaling."""
        if self.autoscaling is None:
            return None
        return self.autoscaling.policy_for(limits_set=self._has_limits)

    @property
    def public_name(self) -> str:
        """The name that clients ask for."""
        return self.served_model_name or self.model.rstrip("/").rsplit("/", 1)[-1]

    @property
    def public_names(self) -> tuple[str, ...]:
        """Every name that clients may ask for: `public_name` first, then the aliases."""
        return (self.public_name, *self.aliases)

    @property
    def layout_request(self) -> LayoutRequest | None:
        """The explicit layout, or the controller's choice; None where the planner chooses."""
        if self.layout != "auto":
            return self.layout.request()
        return None if self.replanned is None else self.replanned.request()

    @property
    def gpu_memory_utilization(self) -> float:
        """The engine's share of GPU memory; vLLM's default where the config is silent."""
        return float(self.engine.get("gpu_memory_utilization", 0.9))

    @property
    def max_model_len(self) -> int | None:
        """Longest request in tokens, where the config sets it as a number."""
        value = self.engine.get("max_model_len")
        return value if isinstance(value, int) else None

    def planned_workload(self, max_context_tokens: int) -> Workload | None:
        """The workload for a model of this context; None where the config states none."""
        if self.workload is None:
            return None
        return self.workload.workload(self.max_model_len or max_context_tokens)


def parse_args(data: Mapping[str, Any], where: str) -> AppArgs:
    """Check the `args:` of one application.

    Raises:
        RefusedError: a key or value is not valid; one line for each.
    """
    try:
        return AppArgs.model_validate(dict(data))
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            place = ".".join(map(str, problem["loc"]))
            text = problem["msg"].removeprefix("Value error, ")
            lines.append(f"- {place}: {text}" if place else f"- {text}")
        raise RefusedError(f"The args of {where} are not valid:\n" + "\n".join(lines)) from error
