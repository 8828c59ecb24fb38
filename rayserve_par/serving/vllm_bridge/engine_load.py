"""The engine's load as of its latest step, summed over the DP ranks of the instance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rayserve_par.serving.admission.concurrency import EngineLoad

if TYPE_CHECKING:
    from vllm.v1.metrics.stats import SchedulerStats


class LatestLoad:
    """Remembers each engine's last scheduler statistics; calling it gives their sum."""

    def __init__(self) -> None:
        self._by_engine: dict[int, EngineLoad] = {}

    def on_scheduler_stats(self, stats: SchedulerStats, engine_index: int) -> None:
        """One engine made a step."""
        self._by_engine[engine_index] = EngineLoad(
            running=stats.num_running_reqs,
            waiting=stats.num_waiting_reqs,
            kv_usage=stats.kv_cache_usage,
        )

    def __call__(self) -> EngineLoad | None:
        """Running and waiting requests in all, and the fullest KV cache's share."""
        loads = tuple(self._by_engine.values())
        if not loads:
            return None
        return EngineLoad(
            running=sum(load.running for load in loads),
            waiting=sum(load.waiting for load in loads),
            kv_usage=max(load.kv_usage for load in loads),
        )
