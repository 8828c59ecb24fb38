"""Variables and arguments that every engine of ours gets, on GPUs and on logical GPUs.

A logical GPU is a process on the CPU that Ray counts as one GPU, so several share one machine's
cores and memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_EVERYWHERE = {
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_SERVER_DEV_MODE": "0",  # its endpoints reset caches and call into workers
}
_LOGICAL_GPU = {
    "RAYSERVE_PAR_CPU_RANKS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    # Release 0.32 takes its second model runner where Triton is there; ours builds on the first.
    "VLLM_USE_V2_MODEL_RUNNER": "0",
}
# They share one machine's memory, so their KV cache stays small unless the config says.
_LOGICAL_GPU_KV_CACHE_BYTES = 256 * 2**20

LOGICAL_GPU_ARGUMENTS: Mapping[str, Any] = {
    "enforce_eager": True,
    "kv_cache_memory_bytes": _LOGICAL_GPU_KV_CACHE_BYTES,
}


def engine_environment(*, logical_gpus: bool) -> dict[str, str]:
    """Environment variables of an engine's processes."""
    return {**_EVERYWHERE, **(_LOGICAL_GPU if logical_gpus else {})}
