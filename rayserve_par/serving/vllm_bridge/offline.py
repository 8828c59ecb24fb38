"""An engine without a server, measured: memory, prefill by prompt length, TPOT by batch.

    prefill_seconds(p)   median seconds of one request with p prompt tokens and one output token
    tpot_seconds(b)      (seconds of b requests with 2 + d output tokens
                          - seconds of b requests with 2) / d
    kv_tokens            blocks x block size of one DP rank
    weight_bytes         parameters and buffers of each rank

Prompts are random tokens, so that experts are hit evenly and no prefix repeats. Batches that the KV
cache cannot hold at once are left out, for they would wait in a queue. Left out: the tokenizer and
the HTTP front.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rayserve_par.serving.vllm_bridge import weight_bytes

_PREFILL_RUNS = 5
_DECODE_RUNS = 2
# Ids below are often special tokens.
_FIRST_TOKEN = 10


def time_engine(
    model: str,
    tp: int,
    *,
    engine: Mapping[str, Any],
    prefill_tokens: Sequence[int],
    batches: Sequence[int],
    prompt_tokens: int,
    decode_tokens: int,
    max_model_len: int,
) -> dict[str, Any]:
    """Start an engine with random weights in this process, and measure it.

    `engine` has further arguments of vLLM's, such as `pipeline_parallel_size`. Prompts that leave
    no room for an output token within `max_model_len` are left out.
    """
    import vllm

    started = time.monotonic()
    arguments: dict[str, Any] = {
        "load_format": "dummy",
        "skip_tokenizer_init": True,
        "tensor_parallel_size": tp,
        "max_model_len": max_model_len,
        "max_num_seqs": max(batches),
        "enable_prefix_caching": False,
        "worker_extension_cls": weight_bytes.EXTENSION,
        **engine,
    }
    llm = vllm.LLM(model, **arguments)
    start_seconds = time.monotonic() - started
    try:
        memory = _memory(llm)
        times = _times(llm, prefill_tokens, batches, prompt_tokens, decode_tokens, max_model_len)
    finally:
        # The engine core is a child process; this one would wait for its end at its own.
        llm.llm_engine.engine_core.shutdown()
    engine_name = f"vllm {vllm.__version__}"
    return {"engine": engine_name, "start_seconds": start_seconds, **memory, **times}


def _memory(llm: Any) -> dict[str, Any]:
    """What memory holds, and the settings of the engine that decide it."""
    config = llm.llm_engine.vllm_config
    cache, scheduler = config.cache_config, config.scheduler_config
    return {
        "weight_bytes": [int(size) for size in llm.collective_rpc(weight_bytes.QUESTION)],
        "kv_tokens": int(cache.num_gpu_blocks) * int(cache.block_size),
        "kv_cache_dtype": str(cache.cache_dtype),
        "gpu_memory_utilization": float(cache.gpu_memory_utilization),
        "max_num_batched_tokens": int(scheduler.max_num_batched_tokens),
        "max_num_seqs": int(scheduler.max_num_seqs),
        "max_model_len": int(config.model_config.max_model_len),
    }


def _times(
    llm: Any,
    prefill_tokens: Sequence[int],
    batches: Sequence[int],
    prompt_tokens: int,
    decode_tokens: int,
    max_model_len: int,
) -> dict[str, Any]:
    config = llm.llm_engine.vllm_config
    cache = config.cache_config
    prompt = min(prompt_tokens, max_model_len - decode_tokens - 2)
    timer = _Timer(llm, config.model_config.get_vocab_size())
    timer.seconds(2, min(64, prompt), 8)  # kernels compiled on the way are not timed
    blocks_per_request = -(-(prompt + decode_tokens + 2) // cache.block_size)
    fitting = [b for b in batches if b * blocks_per_request <= cache.num_gpu_blocks]
    return {
        "prompt_tokens": prompt,
        "prefill_seconds": [[p, timer.prefill(p)] for p in prefill_tokens if p < max_model_len],
        "tpot_seconds": [[b, timer.per_output_token(b, prompt, decode_tokens)] for b in fitting],
    }


class _Timer:
    def __init__(self, llm: Any, vocabulary: int) -> None:
        self._llm = llm
        self._vocabulary = vocabulary
        self._random = random.Random(0)

    def seconds(self, requests: int, prompt_tokens: int, output_tokens: int) -> float:
        """Seconds until `requests` requests that come at once are all answered."""
        from vllm import SamplingParams

        prompts: list[Any] = [
            {"prompt_token_ids": self._tokens(prompt_tokens)} for _ in range(requests)
        ]
        sampling = SamplingParams(
            max_tokens=output_tokens,
            min_tokens=output_tokens,
            ignore_eos=True,
            temperature=0.0,
            detokenize=False,
        )
        started = time.perf_counter()
        self._llm.generate(prompts, sampling, use_tqdm=False)
        return time.perf_counter() - started

    def _tokens(self, count: int) -> list[int]:
        return [self._random.randrange(_FIRST_TOKEN, self._vocabulary) for _ in range(count)]

    def prefill(self, tokens: int) -> float:
        """Seconds to the first token of one request."""
        return statistics.median(self.seconds(1, tokens, 1) for _ in range(_PREFILL_RUNS))

    def per_output_token(self, batch: int, prompt_tokens: int, decode_tokens: int) -> float:
        """Seconds of one decoding step of `batch` requests."""
        self.seconds(batch, prompt_tokens, 2)
        short = min(self.seconds(batch, prompt_tokens, 2) for _ in range(_DECODE_RUNS))
        long = min(
            self.seconds(batch, prompt_tokens, 2 + decode_tokens) for _ in range(_DECODE_RUNS)
        )
        return (long - short) / decode_tokens
