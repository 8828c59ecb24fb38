"""What it costs an instance to count for the controller. `python -m benchmarks.observing`

Times the very calls that vLLM's stat loggers and `engine.generate` make, with vLLM's own objects,
for batches of several sizes, and sets them against a full decode step of Llama-3.1-8B on one H200
as measured (5.0 ms + 0.046 ms a sequence), a short one, so that the shares are large ones. All of
it runs in the process that serves HTTP.
"""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

from rayserve_par.serving.instance_counters import InstanceCounters

_BATCHES = (1, 32, 128)
_ROUNDS, _CALLS = 7, 3000
_OUTPUT_TOKENS = 128


def _seconds_each(call: Callable[[], Any]) -> float:
    """Median over rounds of the mean time of a call."""
    found = []
    for _ in range(_ROUNDS):
        begun = time.perf_counter()
        for _ in range(_CALLS):
            call()
        found.append((time.perf_counter() - begun) / _CALLS)
    return median(found)


def _logger(counters: InstanceCounters) -> Any:
    from rayserve_par.serving.vllm_bridge.engine_counts import CountingStatLogger

    config: Any = SimpleNamespace(
        cache_config=SimpleNamespace(num_gpu_blocks=10_000, block_size=16),
        parallel_config=SimpleNamespace(data_parallel_size=1),
    )
    return CountingStatLogger(config, counters=counters)


def measure() -> list[dict[str, float]]:
    """Costs by batch size, in seconds and as shares of a step."""
    from vllm.v1.metrics.stats import FinishedRequestStats, IterationStats, SchedulerStats

    rows = []
    for batch in _BATCHES:
        step_seconds = 0.0050 + 0.000046 * batch
        counters = InstanceCounters()
        scheduler = SchedulerStats(num_running_reqs=batch, kv_cache_usage=0.5)
        steady, ending = IterationStats(), IterationStats()
        steady.inter_token_latencies_iter = [step_seconds + 1e-6 * n for n in range(batch)]
        ending.inter_token_latencies_iter = list(steady.inter_token_latencies_iter)
        ending.time_to_first_tokens_iter = [0.1]
        ending.finished_requests = [
            FinishedRequestStats(
                finish_reason=None, request_id="r", num_prompt_tokens=1000,
                num_generation_tokens=128, mean_time_per_output_token=0.01,
            )
        ]  # fmt: skip
        record = _logger(counters).record
        step = _seconds_each(partial(record, scheduler, steady))
        end = _seconds_each(partial(record, scheduler, ending))
        arrival = _seconds_each(partial(counters.on_arrived, time.time(), 1000))
        # Of a step: its own cost, and the arrivals and ends that fall into it.
        ends_each_step = batch / _OUTPUT_TOKENS
        whole = step + ends_each_step * (max(0.0, end - step) + arrival)
        rows.append(
            {
                "batch": batch,
                "step_microseconds": 1e6 * step,
                "end_microseconds": 1e6 * max(0.0, end - step),
                "arrival_microseconds": 1e6 * arrival,
                "share_of_step": whole / step_seconds,
            }
        )
    report = _seconds_each(
        lambda: counters.report(
            time.time(), shed=0, running=1, waiting=0, kv_use=0.5, start_seconds=1.0
        ).as_floats()
    )
    for row in rows:
        row["report_microseconds"] = 1e6 * report
        row["share"] = row["share_of_step"] + report  # one report each second
    return rows


def main() -> None:
    """Print the costs, and write them where `--json` says."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = measure()
    for row in rows:
        print(
            f"batch {row['batch']:3.0f}: a step {row['step_microseconds']:.1f} us, an arrival "
            f"{row['arrival_microseconds']:.1f} us, an end {row['end_microseconds']:.1f} us, a "
            f"report {row['report_microseconds']:.0f} us/s: {row['share']:.3%} of the time"
        )
    if args.json is not None:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
