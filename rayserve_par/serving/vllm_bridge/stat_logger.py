"""vLLM stat logger that feeds this instance's own metrics and its proof of life.

vLLM calls `record` once per engine step with what that step finished. Its own metrics go to Ray's
Prometheus endpoint through `RayPrometheusStatLogger`; this one adds ours beside them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vllm.v1.metrics.loggers import StatLoggerBase

from rayserve_par.serving.vllm_bridge.instance import PROBE_PREFIX

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.v1.metrics.stats import FinishedRequestStats, IterationStats, SchedulerStats

    from rayserve_par.serving.instance_metrics import InstanceMetrics


class InstanceStatLogger(StatLoggerBase):
    """Records requests, TTFT and TPOT, and tells `on_step` that the engine made tokens."""

    def __init__(
        self,
        vllm_config: VllmConfig,
        engine_index: int = 0,
        *,
        metrics: InstanceMetrics,
        on_step: Callable[[], None],
    ) -> None:
        self._metrics = metrics
        self._on_step = on_step

    def record(
        self,
        scheduler_stats: SchedulerStats | None,
        iteration_stats: IterationStats | None,
        mm_cache_stats: Any = None,
        engine_idx: int = 0,
    ) -> None:
        if iteration_stats is None:
            return
        if iteration_stats.num_generation_tokens:
            self._on_step()
        ttfts_seconds = list(iteration_stats.time_to_first_tokens_iter)
        for request in iteration_stats.finished_requests:
            if _is_probe(request):
                # Its first token is its last, so its latency is its time to first token.
                if request.e2e_latency in ttfts_seconds:
                    ttfts_seconds.remove(request.e2e_latency)
                continue
            self._metrics.requests.inc(tags={"reason": str(request.finish_reason)})
            if request.num_generation_tokens > 1:
                self._metrics.tpot_seconds.observe(request.mean_time_per_output_token)
        for ttft_seconds in ttfts_seconds:
            self._metrics.ttft_seconds.observe(ttft_seconds)

    def log_engine_initialized(self) -> None:
        """Nothing to log: the replica exports its start itself."""


def _is_probe(request: FinishedRequestStats) -> bool:
    # Release 0.25 does not carry the id; there our questions count as requests.
    return str(getattr(request, "request_id", None)).startswith(PROBE_PREFIX)


def stat_loggers(metrics: InstanceMetrics, on_step: Callable[[], None]) -> list[Any]:
    """Stat logger factories for `AsyncLLM`: vLLM's metrics through Ray, and this instance's."""
    from functools import partial

    from vllm.v1.metrics.ray_wrappers import RayPrometheusStatLogger

    return [
        RayPrometheusStatLogger,
        partial(InstanceStatLogger, metrics=metrics, on_step=on_step),
    ]
