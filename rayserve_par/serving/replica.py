"""The Serve replica: exactly one instance, behind vLLM's own OpenAI server.

Its life: start the instance -> verify the placement -> build vLLM's app behind the admission ->
serve. When the engine or a rank ends, requests under way get their error, new ones are sent to
other instances, and the process leaves, so that Serve drops the replica, frees its placement group
and starts the whole instance anew.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import MemoryHandler
from typing import TYPE_CHECKING, Any

import ray
from ray import serve

from rayserve_par.serving.admission.concurrency import EngineLoad
from rayserve_par.serving.admission.own_share import limits_of
from rayserve_par.serving.admission.usage import UsageSink
from rayserve_par.serving.draining import actor_of_this_process, drains
from rayserve_par.serving.health import GenerationProof
from rayserve_par.serving.instance_admission import make_gate
from rayserve_par.serving.instance_counters import InstanceCounters
from rayserve_par.serving.instance_metrics import (
    FACTS_PERIOD_SECONDS,
    InstanceMetrics,
    instance_metrics,
)
from rayserve_par.serving.rank_table import (
    InstanceRecord,
    forget_instance,
    publish_instance,
    read_ranks,
)
from rayserve_par.serving.replica_spec import ReplicaSpec
from rayserve_par.serving.sigterm import drain_on_sigterm
from rayserve_par.serving.slo import Slo
from rayserve_par.serving.stage_places import stage_places

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastapi import FastAPI
    from starlette.applications import Starlette

    from rayserve_par.serving.admission.gate import Gate
    from rayserve_par.serving.mock_engine.instance import MockInstance
    from rayserve_par.serving.mock_engine.times import EngineTimes
    from rayserve_par.serving.vllm_bridge.instance import Instance

logger = logging.getLogger("ray.serve")

# At most so long do requests get their error from an engine that has ended; what was written last
# then needs a moment to leave the process.
_LEAVE_WITHIN_SECONDS = 5.0
_LAST_WORD_SECONDS = 0.2
# Ray reports every 10 s, and Prometheus mostly asks every 15 s.
_MISMATCH_SHOWN_SECONDS = 30.0


@contextmanager
def kept_log_targets() -> Iterator[None]:
    """Give Serve's log handlers their targets back, which vLLM's logging setup takes from them.

    vLLM calls `logging.config.dictConfig`, which closes every handler of the process. Without its
    target the replica logs nothing more, and a controller that restarts stops the replica when it
    asks for its log file (Ray 2.60, `get_component_logger_file_path`).
    """
    handlers = [handler for handler in logger.handlers if isinstance(handler, MemoryHandler)]
    targets = [handler.target for handler in handlers]
    try:
        yield
    finally:
        for handler, target in zip(handlers, targets, strict=True):
            handler.setTarget(target)


class ModelReplica:
    """One instance of a model; `ReplicaSpec` says which and where."""

    def __init__(self, spec: ReplicaSpec) -> None:
        self._spec = spec
        self._instance: Instance | MockInstance | None = None
        self._engine_load: Callable[[], EngineLoad | None] = lambda: None
        self._group_id: str | None = None
        self._exporting: asyncio.Task[None] | None = None
        self._gate: Gate | None = None
        self._proof = GenerationProof(self._generate_one_token)
        self._counters = InstanceCounters(begun=int(time.time()))

    async def __serve_build_asgi_app__(self) -> FastAPI | Starlette:
        from fastapi import FastAPI

        from rayserve_par.serving.admission.middleware import AdmissionMiddleware
        from rayserve_par.serving.admission.openapi import describe_public_paths

        metrics, usage = self._make_metrics(), UsageSink()
        gate = self._make_gate(usage)
        if self._spec.mock is not None:
            self._instance = await self._start_mock(self._spec.mock, metrics, usage)
        else:
            self._instance = await self._start_engine(metrics, usage)
        self._instance.watch(self._leave)
        if self._spec.mock is None:
            await self._verify(metrics)
        self._publish(self._instance.start_seconds)
        metrics.places = stage_places(read_ranks(self._group_id or ""), self._spec.plan.layout.tp)
        gate.engine_runs(self._instance.max_num_seqs)
        self._gate = gate
        self._exporting = asyncio.create_task(self._keep_exporting(metrics))
        # vLLM's /health asks the engine client; it shall be true only while tokens come.
        engine: Any = self._instance.engine
        engine.check_health = self._check_engine
        app = await self._instance.build_asgi_app()
        if isinstance(app, FastAPI):
            describe_public_paths(app)
        # Around all of vLLM's own; `add_middleware` refuses a stack that is built, as it may be.
        inner = app.middleware_stack or app.build_middleware_stack()
        app.middleware_stack = AdmissionMiddleware(inner, gate)
        await gate.start()
        drain_on_sigterm(self._drain)
        return app

    async def _start_engine(self, metrics: InstanceMetrics, usage: UsageSink) -> Instance:
        from rayserve_par.serving.vllm_bridge.engine_counts import (
            count_arrivals,
            counting_stat_logger,
        )
        from rayserve_par.serving.vllm_bridge.engine_load import LatestLoad
        from rayserve_par.serving.vllm_bridge.instance import start_instance
        from rayserve_par.serving.vllm_bridge.request_context import carry_request_context
        from rayserve_par.serving.vllm_bridge.stat_logger import StepListeners, stat_loggers

        load = LatestLoad()
        listeners = StepListeners(
            on_tokens=self._proof.on_step,
            on_load=load.on_scheduler_stats,
            on_finished=usage.on_finished,
        )
        loggers = [
            *stat_loggers(metrics, self._node, listeners),
            counting_stat_logger(self._counters),
        ]
        with kept_log_targets():
            instance = await start_instance(self._spec, loggers)
        self._engine_load = load
        carry_request_context(instance.engine, usage.on_started)
        count_arrivals(instance.engine, self._counters, time.time)
        return instance

    async def _start_mock(
        self, times: EngineTimes, metrics: InstanceMetrics, usage: UsageSink
    ) -> MockInstance:
        from rayserve_par.serving.mock_engine.engine import EngineListeners
        from rayserve_par.serving.mock_engine.instance import start_mock_instance

        instance = await start_mock_instance(
            self._spec.names,
            times,
            EngineListeners(
                on_tokens=self._proof.on_step,
                on_finished=usage.on_finished,
                on_first_token=metrics.record_first_token,
                on_ended=metrics.record_ended,
                counters=self._counters,
            ),
        )
        self._engine_load = instance.engine_load
        return instance

    async def _verify(self, metrics: InstanceMetrics) -> None:
        from rayserve_par.serving.verification import verify_placement

        assert self._instance is not None, "ranks have places once the instance has started"
        verdict = verify_placement(self._spec.placement)
        if not verdict.ok:
            self._instance.shutdown()
            await self._show_mismatch(metrics)
            raise RuntimeError(
                "The placement is not what the plan says:\n"
                + "\n".join(f"- {violation}" for violation in verdict.violations)
                + f"\n\nPlanned:\n{verdict.expected}\n\nFound:\n{verdict.actual}"
            )
        logger.info("Placement verified:\n%s", verdict.actual)

    async def _show_mismatch(self, metrics: InstanceMetrics) -> None:
        """Export it for so long that Ray has reported it and Prometheus has fetched it."""
        for _ in range(math.ceil(_MISMATCH_SHOWN_SECONDS / FACTS_PERIOD_SECONDS)):
            self._export_facts(metrics, verified=False)
            await asyncio.sleep(FACTS_PERIOD_SECONDS)

    def _make_gate(self, usage: UsageSink) -> Gate:
        replica = serve.get_replica_context()
        return make_gate(
            self._spec,
            app=replica.app_name,
            replica_id=replica.replica_id.unique_id,
            engine_load=self._load_now,
            engine_failed=lambda: self._instance is not None and self._instance.failed,
            usage=usage,
        )

    def _load_now(self) -> EngineLoad | None:
        return self._engine_load()

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """What Serve sends to the policy: the instance's counters (`instance_counters.py`).

        Nothing before the engine has started, so that an instance reports once it serves.
        """
        if self._instance is None or self._gate is None:
            return {}
        load = self._load_now() or EngineLoad()
        report = self._counters.report(
            time.time(),
            shed=self._gate.outcomes["overloaded"],
            running=load.running,
            waiting=load.waiting,
            kv_use=load.kv_usage,
            start_seconds=self._instance.start_seconds,
        )
        return report.as_floats()

    async def check_health(self) -> None:
        """Serve's health check, with which its controller also asks what it finds when it starts.

        A controller does not know what the one before it has told to leave. Unless that refuses,
        it counts as running, and others are stopped where it should have been.

        Raises:
            RuntimeError: the replica drains, or the engine or one of its ranks has ended.
            TimeoutError: the engine lives and does not generate.
        """
        if drains(actor_of_this_process()):
            raise RuntimeError(
                "The instance drains: it finishes its requests, takes no new ones and leaves, so "
                "it does not count as one that runs. Nothing is wrong with it."
            )
        await self._check_engine()

    async def _check_engine(self) -> None:
        if self._instance is None:
            return
        if self._instance.failed:
            raise RuntimeError("The engine has ended.")
        await self._proof.prove()

    async def _generate_one_token(self) -> None:
        if self._instance is None:
            raise RuntimeError("The engine has not started.")
        await self._instance.generate_one_token()

    def _export_facts(self, metrics: InstanceMetrics, *, verified: bool) -> None:
        assert self._instance is not None, "facts are known once the instance has started"
        metrics.export_facts(
            self._spec.plan,
            verified=verified,
            start_seconds=self._instance.start_seconds,
            now_seconds=time.monotonic(),
        )

    async def _keep_exporting(self, metrics: InstanceMetrics) -> None:
        export_engine_metrics = self._engine_metrics()
        while True:
            self._export_facts(metrics, verified=True)
            metrics.export_counts()
            export_engine_metrics()
            if self._gate is not None:
                metrics.export_admission(self._gate.outcomes, self._gate.limit)
            await asyncio.sleep(FACTS_PERIOD_SECONDS)

    def _engine_metrics(self) -> Callable[[], None]:
        if self._spec.mock is not None:
            return lambda: None
        from rayserve_par.serving.vllm_bridge.ray_exports import export_metrics

        return export_metrics

    @property
    def _node(self) -> str:
        return str(ray.get_runtime_context().get_node_id())

    def _make_metrics(self) -> InstanceMetrics:
        context, workload = serve.get_replica_context(), self._spec.plan.workload
        return instance_metrics(
            model=self._spec.served_model_name,
            instance=context.replica_id.unique_id,
            node=self._node,
            slo=Slo(workload.ttft_limit, workload.tpot_limit),
        )

    def _publish(self, start_seconds: float) -> None:
        context, replica = ray.get_runtime_context(), serve.get_replica_context()
        layout = self._spec.plan.layout
        self._group_id = ray.util.get_current_placement_group().id.hex()
        publish_instance(
            InstanceRecord(
                group_id=self._group_id,
                app=replica.app_name,
                replica_id=replica.replica_id.unique_id,
                actor_id=context.get_actor_id(),
                model=self._spec.served_model_name,
                tp=layout.tp,
                pp=layout.pp,
                dp=layout.dp,
                ep=layout.ep,
                start_seconds=start_seconds,
                limits_of=limits_of(replica.app_name, self._spec.names, self._spec.node_group),
            )
        )

    def _drain(self) -> None:
        """Stop as Serve's own scale-down does: nothing new, streams finish, the process ends."""
        logger.warning("SIGTERM: the replica finishes its requests and leaves.")
        me = ray.get_runtime_context().current_actor
        try:
            ray.get(me.perform_graceful_shutdown.remote())
        finally:
            os._exit(0)

    def _leave(self, reason: str) -> None:
        logger.error("The replica leaves: %s.", reason)
        end = time.monotonic() + _LEAVE_WITHIN_SECONDS
        if self._gate is not None:
            self._gate.draining = True
            while self._gate.responses and time.monotonic() < end:
                time.sleep(_LAST_WORD_SECONDS / 4)
        time.sleep(_LAST_WORD_SECONDS)
        os._exit(1)

    def __del__(self) -> None:
        instance: Any = getattr(self, "_instance", None)
        if instance is not None:
            instance.shutdown()
        group_id = getattr(self, "_group_id", None)
        if group_id is not None:
            forget_instance(group_id)
