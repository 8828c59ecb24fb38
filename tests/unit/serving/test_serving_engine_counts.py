"""Steps and requests read off vLLM's statistics, with vLLM's own objects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("vllm")

from vllm.v1.metrics.stats import (
    FinishedRequestStats,
    IterationStats,
    PrefixCacheStats,
    SchedulerStats,
)

from rayserve_par.serving.instance_counters import InstanceCounters
from rayserve_par.serving.vllm_bridge.engine_counts import (
    CountingStatLogger,
    count_arrivals,
    prompt_tokens,
)
from rayserve_par.serving.vllm_bridge.instance import PROBE_PREFIX


def logger(ranks: int = 1) -> tuple[CountingStatLogger, InstanceCounters]:
    counters = InstanceCounters()
    config: Any = SimpleNamespace(
        cache_config=SimpleNamespace(num_gpu_blocks=100, block_size=16),
        parallel_config=SimpleNamespace(data_parallel_size=ranks),
    )
    return CountingStatLogger(config, counters=counters), counters


def iteration(
    between: list[float],
    first: Sequence[float] = (),
    *,
    prompt: int = 0,
) -> IterationStats:
    found = IterationStats()
    found.inter_token_latencies_iter = list(between)
    found.time_to_first_tokens_iter = list(first)
    found.prompt_token_stats.computed = prompt
    return found


def finished(name: str, e2e: float = 1.0) -> FinishedRequestStats:
    return FinishedRequestStats(
        finish_reason=None, request_id=name, e2e_latency=e2e, num_prompt_tokens=7,
        num_generation_tokens=3, mean_time_per_output_token=0.5, queued_time=0.25,
    )  # fmt: skip


def scheduler(running: int, use: float = 0.5) -> SchedulerStats:
    return SchedulerStats(num_running_reqs=running, kv_cache_usage=use)


def test_a_decode_step_is_as_long_as_the_shortest_pause_between_tokens() -> None:
    log, counters = logger()
    log.record(scheduler(3), iteration([0.02, 0.021, 0.9]))
    steps = counters.decode_steps
    assert (steps.count, steps.seconds, steps.decodes) == (1, 0.02, 3)
    assert steps.context_tokens == 0.5 * 100 * 16


def test_a_step_that_completes_prompts_is_a_prefill_step() -> None:
    log, counters = logger()
    log.record(scheduler(4), iteration([0.05, 0.05, 0.05], [0.3], prompt=400))
    assert counters.decode_steps.count == 0
    steps = counters.prefill_steps
    assert (steps.count, steps.prompt_tokens, steps.decodes) == (1, 400, 3)
    assert steps.context_tokens == pytest.approx(0.5 * 1600 * 3 / 4)


def test_steps_of_a_long_prompt_and_the_one_after_are_left_aside() -> None:
    log, counters = logger()
    log.record(scheduler(3), iteration([0.09, 0.09]))  # the third works on its prompt
    log.record(scheduler(3), iteration([0.09, 0.09], [0.5], prompt=9000))
    assert (counters.decode_steps.count, counters.prefill_steps.count) == (0, 0)
    log.record(scheduler(3), iteration([0.02, 0.02, 0.02]))
    assert counters.decode_steps.count == 1


def test_a_dp_rank_counts_for_the_whole_instance() -> None:
    log, counters = logger(ranks=4)
    log.record(scheduler(2), iteration([0.02, 0.02]))
    assert counters.decode_steps.decodes == 8
    assert counters.decode_steps.context_tokens == 4 * 800


def test_requests_and_caches() -> None:
    log, counters = logger()
    stats, found = scheduler(0), iteration([], [0.4])
    stats.prefix_cache_stats = PrefixCacheStats(requests=1, queries=100, hits=60)
    found.finished_requests = [finished("a"), finished("b")]
    found.num_preempted_reqs = 2
    log.record(stats, found)
    assert (counters.ended, counters.ended_prompt_tokens, counters.ended_output_tokens) == (
        2,
        14,
        6,
    )
    assert (counters.first_tokens, counters.ttft_seconds) == (1, 0.4)
    assert (counters.queued_seconds, counters.tpot_seconds, counters.preemptions) == (0.5, 1.0, 2)
    assert (counters.prefix_queries, counters.prefix_hits) == (100, 60)


def test_our_own_probes_are_nobodys_requests() -> None:
    log, counters = logger()
    found = iteration([], [0.4, 0.7])
    found.finished_requests = [finished(f"{PROBE_PREFIX}1", e2e=0.7)]
    log.record(scheduler(0), found)
    assert (counters.ended, counters.first_tokens, counters.ttft_seconds) == (0, 1, 0.4)


def test_arrivals_are_counted_as_they_enter_the_engine() -> None:
    class Engine:
        async def generate(self, *_: Any, **__: Any) -> AsyncGenerator[str, None]:
            yield "token"

    engine, counters = Engine(), InstanceCounters()
    count_arrivals(engine, counters, lambda: 50.0)

    async def ask(name: str) -> list[str]:
        return [one async for one in engine.generate({"prompt_token_ids": [1, 2]}, None, name)]

    assert asyncio.run(ask("a")) == asyncio.run(ask(f"{PROBE_PREFIX}x")) == ["token"]
    found = counters.report(51, shed=0, running=0, waiting=0, kv_use=0, start_seconds=0)
    assert (found.arrived, found.arrived_prompt_tokens) == (1, 2)


@pytest.mark.parametrize(
    ("prompt", "tokens"),
    [
        ({"type": "token", "prompt_token_ids": [1, 2, 3]}, 3),
        (SimpleNamespace(prompt_token_ids=[1]), 1),
        ("not tokenized yet", 0),
        ({"prompt": "text"}, 0),
    ],
)
def test_prompts_in_every_form(prompt: Any, tokens: int) -> None:
    assert prompt_tokens(prompt) == tokens
