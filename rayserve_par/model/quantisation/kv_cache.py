"""What a checkpoint says about its KV cache, as an engine asked for kv_cache_dtype "auto" obeys it.

    modelopt             kv_cache_scheme (static 8-bit float, or 4-bit float) or kv_cache_quant_algo
    compressed-tensors   any kv_cache_scheme: fp8
    others               the model's own 16 bits

NVFP4 caches carry one fp8 scale per 16 values: 4.5 bits.
Source: vllm/utils/torch_utils.py `get_kv_cache_quant_algo_string` and
vllm/model_executor/layers/attention/attention.py, release 0.32.
"""

from collections.abc import Mapping
from typing import Any

_BITS = {"fp8": 8.0, "nvfp4": 4.5}
MODEL_BITS = 16.0


def kv_cache_bits(method: str, quant: Mapping[str, Any]) -> float:
    """Bits per value of the KV cache."""
    scheme = quant.get("kv_cache_scheme") or quant.get("kv_cache_quant_algo")
    if method == "compressed-tensors":
        return 8.0 if quant.get("kv_cache_scheme") else MODEL_BITS
    if not method.startswith("modelopt") or not scheme:
        return MODEL_BITS
    if isinstance(scheme, str):
        return _BITS.get(scheme.lower(), MODEL_BITS)
    if scheme.get("type") != "float":
        return MODEL_BITS
    if scheme.get("num_bits") == 8 and scheme.get("dynamic") is False:
        return 8.0
    return _BITS["nvfp4"] if scheme.get("num_bits") == 4 else MODEL_BITS
