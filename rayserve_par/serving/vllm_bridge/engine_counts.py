"""Feeds an instance's counters from vLLM: arrivals at `generate`, the rest once per engine step.

vLLM does not report its steps themselves, but what they made, so a step is read off that:

    seconds         the shortest time between two tokens of one request that the step made: a
                    request that decodes has one token in every step. A step without such a
                    request has no known time and is not counted
    decodes         requests that got a token which was not their first
    prompt tokens   computed ones of the prompts that the step completed
    context tokens  KV use x KV tokens of the engine, by the share of decodes among its requests

A step in which some request got no token works on a long prompt whose tokens are told later; it and
the step after it are left aside, since they would look slower than they are. With asynchronous
scheduling the counts of requests are those of the next step, which leaves aside a step more.
Source of the fields: vllm/v1/metrics/stats.py, releases 0.25 to 0.32.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import TYPE_CHECKING, Any

from vllm.v1.metrics.loggers import StatLoggerBase

from rayserve_par.serving.instance_counters import InstanceCounters
from rayserve_par.serving.vllm_bridge.instance import PROBE_PREFIX

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.v1.metrics.stats import IterationStats, SchedulerStats


class CountingStatLogger(StatLoggerBase):
    """One engine's part of the instance's counters."""

    def __init__(
        self, vllm_config: VllmConfig, engine_index: int = 0, *, counters: InstanceCounters
    ) -> None:
        self._counters = counters
        self._cache = vllm_config.cache_config
        self._ranks = int(vllm_config.parallel_config.data_parallel_size)
        self._prefilling = False

    def record(
        self,
        scheduler_stats: SchedulerStats | None,
        iteration_stats: IterationStats | None,
        mm_cache_stats: Any = None,
        engine_idx: int = 0,
    ) -> None:
        counters = self._counters
        if scheduler_stats is not None:
            prefix = scheduler_stats.prefix_cache_stats
            if prefix is not None and prefix.requests:
                counters.prefix_queries += prefix.queries
                counters.prefix_hits += prefix.hits
        if iteration_stats is None:
            return
        counters.preemptions += iteration_stats.num_preempted_reqs
        ttfts_seconds = iteration_stats.time_to_first_tokens_iter
        if scheduler_stats is not None:
            self._record_step(scheduler_stats, iteration_stats)
        if not ttfts_seconds and not iteration_stats.finished_requests:
            return
        probes = []
        for request in iteration_stats.finished_requests:
            if str(request.request_id).startswith(PROBE_PREFIX):
                probes.append(request.e2e_latency)
                continue
            counters.on_ended(
                request.num_prompt_tokens,
                request.num_generation_tokens,
                request.mean_time_per_output_token,
                request.queued_time,
            )
        for ttft_seconds in ttfts_seconds:
            # A probe's first token is its last, so its latency is its time to first token.
            if ttft_seconds in probes:
                probes.remove(ttft_seconds)
            else:
                counters.on_first_token(ttft_seconds)

    def _record_step(self, scheduler: SchedulerStats, iteration: IterationStats) -> None:
        between = iteration.inter_token_latencies_iter
        served = len(between) + len(iteration.time_to_first_tokens_iter)
        present = scheduler.num_running_reqs + len(iteration.finished_requests)
        before, self._prefilling = self._prefilling, present > served
        if before or self._prefilling or not between:
            return
        decodes, ranks = len(between), self._ranks
        blocks = self._cache.num_gpu_blocks or 0
        held = scheduler.kv_cache_usage * blocks * self._cache.block_size
        self._counters.on_step(
            min(between),
            _computed_prompt_tokens(iteration) * ranks,
            decodes * ranks,
            held * decodes / max(1, present) * ranks,
        )

    def log_engine_initialized(self) -> None:
        """Nothing to log."""


def _computed_prompt_tokens(iteration: IterationStats) -> int:
    """Prompt tokens that were computed and not found in a cache, where the release says so."""
    stats = getattr(iteration, "prompt_token_stats", None)
    return int(iteration.num_prompt_tokens if stats is None else stats.computed)


def counting_stat_logger(counters: InstanceCounters) -> Any:
    """A stat logger factory for `AsyncLLM` that feeds `counters`."""
    return partial(CountingStatLogger, counters=counters)


def count_arrivals(engine: Any, counters: InstanceCounters, clock: Callable[[], float]) -> None:
    """Wrap `engine.generate`: every request but our own probes is counted as it comes in."""
    generate = engine.generate

    @wraps(generate)
    def counted(prompt: Any, sampling_params: Any, request_id: str, **more: Any) -> Any:
        if not request_id.startswith(PROBE_PREFIX):
            counters.on_arrived(clock(), prompt_tokens(prompt))
        return generate(prompt, sampling_params, request_id, **more)

    engine.generate = counted


def prompt_tokens(prompt: Any) -> int:
    """Tokens of a prompt as vLLM's handlers give it; 0 where they are not known yet."""
    ids = prompt.get("prompt_token_ids") if isinstance(prompt, dict) else None
    if ids is None:
        ids = getattr(prompt, "prompt_token_ids", None)
    return 0 if ids is None else len(ids)
