"""vLLM stat logger that feeds this instance's metrics, its proof of life and its admission.

vLLM calls `record` once per engine step with what that step finished. Its own metrics go to Ray's
Prometheus endpoint through `RayPrometheusStatLogger`; this one adds ours beside them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from vllm.v1.metrics.loggers import StatLoggerBase

from rayserve_par.serving.slo import EndedRequest
from rayserve_par.serving.vllm_bridge.instance import PROBE_PREFIX

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.v1.metrics.stats import FinishedRequestStats, IterationStats, SchedulerStats

    from rayserve_par.serving.instance_metrics import InstanceMetrics


@dataclass(frozen=True, slots=True)
class StepListeners:
    """What is told of the engine's steps.

    on_tokens(): tokens were made. on_load(stats, engine index): the queues after the step.
    on_finished(request id, prompt tokens, output tokens): a request ended.
    """

    on_tokens: Callable[[], None]
    on_load: Callable[[SchedulerStats, int], None]
    on_finished: Callable[[str | None, int, int], None]


class InstanceStatLogger(StatLoggerBase):
    """Records requests, TTFT and TPOT, and tells the listeners of every step."""

    def __init__(
        self,
        vllm_config: VllmConfig,
        engine_index: int = 0,
        *,
        metrics: InstanceMetrics,
        listeners: StepListeners,
    ) -> None:
        self._metrics = metrics
        self._listeners = listeners

    def record(
        self,
        scheduler_stats: SchedulerStats | None,
        iteration_stats: IterationStats | None,
        mm_cache_stats: Any = None,
        engine_idx: int = 0,
    ) -> None:
        if scheduler_stats is not None:
            self._listeners.on_load(scheduler_stats, engine_idx)
        if iteration_stats is None:
            return
        if iteration_stats.num_generation_tokens:
            self._listeners.on_tokens()
        ttfts_seconds = list(iteration_stats.time_to_first_tokens_iter)
        for request in iteration_stats.finished_requests:
            if _is_probe(request):
                # Its first token is its last, so its latency is its time to first token.
                if request.e2e_latency in ttfts_seconds:
                    ttfts_seconds.remove(request.e2e_latency)
                continue
            self._listeners.on_finished(
                request.request_id,
                request.num_prompt_tokens,
                request.num_generation_tokens,
            )
            self._metrics.record_ended(_ended(request))
        for ttft_seconds in ttfts_seconds:
            self._metrics.record_first_token(ttft_seconds)

    def log_engine_initialized(self) -> None:
        """Nothing to log: the replica exports its start itself."""


def _ended(request: FinishedRequestStats) -> EndedRequest:
    # The engine does not keep TTFT until the end: it is the latency without the time from the
    # first token to the last, which the engine core measures and the front differs from by its
    # own queue (milliseconds).
    tokens = request.num_generation_tokens
    return EndedRequest(
        reason=str(request.finish_reason),
        output_tokens=tokens,
        ttft_seconds=max(0.0, request.e2e_latency - request.decode_time),
        tpot_seconds=request.mean_time_per_output_token if tokens > 1 else None,
    )


def _is_probe(request: FinishedRequestStats) -> bool:
    return str(request.request_id).startswith(PROBE_PREFIX)


def _with_node(wrapper: type[Any], node: str) -> type[Any]:
    """A metric wrapper of vLLM's whose series carry the label `node` (Ray's node id) as well."""

    class Labelled(wrapper):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._tags["node"] = node

        @staticmethod
        def _get_tag_keys(labelnames: list[str] | None) -> tuple[str, ...]:
            return (*wrapper._get_tag_keys(labelnames), "node")

        def _build_tags(self, *labels: Any, **named: Any) -> dict[str, str]:
            named.update(zip(self.metric._tag_keys, labels, strict=False))
            return {**super()._build_tags(**named), "node": node}

    return Labelled


def vllm_stat_logger(node: str) -> type[Any]:
    """vLLM's own metrics through Ray, with the label `node` beside its model_name and ReplicaId."""
    from vllm.v1.metrics import ray_wrappers

    from rayserve_par.serving.vllm_bridge import ray_exports

    class NodeStatLogger(ray_wrappers.RayPrometheusStatLogger):
        _gauge_cls = _with_node(ray_exports.LatestGauge, node)
        _counter_cls = _with_node(ray_exports.SummedCounter, node)
        _histogram_cls = _with_node(ray_exports.CountingHistogram, node)

    return NodeStatLogger


def stat_loggers(metrics: InstanceMetrics, node: str, listeners: StepListeners) -> list[Any]:
    """Stat logger factories for `AsyncLLM`: vLLM's metrics through Ray, and this instance's."""
    return [
        vllm_stat_logger(node),
        partial(InstanceStatLogger, metrics=metrics, listeners=listeners),
    ]
