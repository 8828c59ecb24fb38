"""One device: how fast its memory and its matrix units are, as plain torch reaches them.

    copy_bytes_per_second   (bytes read + bytes written) / seconds of a large device-to-device copy
    matmul FLOP/s           2 n^3 / seconds of an n x n by n x n product, by the inputs' bits

On a GPU the products are bf16 and, from compute capability 8.9, fp8 (e4m3, one scale per tensor);
on a CPU float32 and bf16. Seconds are the median over batches of calls, timed by the device's
events. Left out: fp4, and fp8 on AMD GPUs, for which plain torch has no one way.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_WARM_UP_CALLS = 3
_BATCHES = 5
_FP8_FROM_CAPABILITY = (8, 9)


@dataclass(frozen=True, slots=True)
class DeviceSizes:
    """How large the measured copy and product are, and calls per timed batch."""

    copy_bytes: int
    matmul_size: int
    calls: int


GPU_SIZES = DeviceSizes(copy_bytes=4 * 2**30, matmul_size=8192, calls=10)
CPU_SIZES = DeviceSizes(copy_bytes=256 * 2**20, matmul_size=1024, calls=3)


def local_gpus() -> int:
    """GPUs of this machine that torch can use (`CUDA_VISIBLE_DEVICES` counts); 0 on a CPU host."""
    import torch

    return int(torch.cuda.device_count()) if torch.cuda.is_available() else 0


def measure_device(_rank: int, _folder: str, on_gpu: bool, sizes: DeviceSizes) -> dict[str, Any]:
    """Measure device 0: its name, copy bandwidth, and [bits, FLOP/s] by precision."""
    import torch

    device = torch.device("cuda:0" if on_gpu else "cpu")
    products = [(16, bf16_product), (8, fp8_product)] if on_gpu else [(32, f32_product)]
    if not on_gpu:
        products.append((16, bf16_product))
    if on_gpu and not _has_fp8():
        products.pop()
    flops = 2 * sizes.matmul_size**3
    return {
        "name": torch.cuda.get_device_name(0) if on_gpu else "cpu",
        "torch": str(torch.__version__),
        "copy_bytes_per_second": _copy_bytes_per_second(device, sizes),
        "matmul_flops": [
            [bits, flops / median_seconds(product(device, sizes.matmul_size), device, sizes.calls)]
            for bits, product in products
        ],
    }


def _has_fp8() -> bool:
    import torch

    if torch.version.hip is not None:
        return False
    return tuple(torch.cuda.get_device_capability(0)) >= _FP8_FROM_CAPABILITY


def _copy_bytes_per_second(device: Any, sizes: DeviceSizes) -> float:
    import torch

    size = sizes.copy_bytes
    if device.type == "cuda":
        free, _total = torch.cuda.mem_get_info(device)
        size = min(size, free // 4)
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    seconds = median_seconds(lambda: target.copy_(source), device, sizes.calls)
    return 2 * size / seconds


def f32_product(device: Any, size: int) -> Callable[[], Any]:
    """A float32 product, ready to be called."""
    import torch

    return _product(device, size, torch.float32)


def bf16_product(device: Any, size: int) -> Callable[[], Any]:
    """A bf16 product, ready to be called."""
    import torch

    return _product(device, size, torch.bfloat16)


def _product(device: Any, size: int, dtype: Any) -> Callable[[], Any]:
    import torch

    # Random inputs: constant ones draw less power, and the clocks then stay higher than in use.
    left = torch.randn(size, size, device=device, dtype=dtype)
    right = torch.randn(size, size, device=device, dtype=dtype)
    return lambda: left @ right


def fp8_product(device: Any, size: int) -> Callable[[], Any]:
    """An fp8 (e4m3) product with a bf16 result, ready to be called."""
    import torch

    left = torch.randn(size, size, device=device).to(torch.float8_e4m3fn)
    # The second factor must be laid out by columns.
    right = torch.randn(size, size, device=device).to(torch.float8_e4m3fn).t()
    scale = torch.ones((), device=device)
    return lambda: torch._scaled_mm(
        left, right, scale_a=scale, scale_b=scale, out_dtype=torch.bfloat16
    )


def median_seconds(call: Callable[[], Any], device: Any, calls: int) -> float:
    """Median over batches of the mean seconds of one call."""
    for _ in range(_WARM_UP_CALLS):
        call()
    return statistics.median(batch_seconds(call, device, calls) / calls for _ in range(_BATCHES))


def batch_seconds(call: Callable[[], Any], device: Any, calls: int) -> float:
    """Seconds that `calls` calls take back to back, from first start to last end on the device."""
    if device.type != "cuda":
        started = time.perf_counter()
        for _ in range(calls):
            call()
        return time.perf_counter() - started
    import torch

    torch.cuda.synchronize(device)
    first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    first.record()
    for _ in range(calls):
        call()
    last.record()
    torch.cuda.synchronize(device)
    return float(first.elapsed_time(last)) / 1000
