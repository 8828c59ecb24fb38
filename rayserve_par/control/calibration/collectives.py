"""The links between this machine's devices: seconds of a collective by ranks and message size.

`all_reduce` and `all_to_all` run on 2, 4, ... ranks up to all of them, `send_recv` from rank 0 to
rank 1. `message_bytes` is one rank's buffer (bf16). Seconds are the mean of back-to-back calls,
the median over batches, of the slowest rank; so what a launch costs is in them only where it is
not hidden behind the call before. NCCL (RCCL) between GPUs, gloo between CPU processes.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from rayserve_par.control.calibration.measure import batch_seconds

OPERATIONS = ("all_reduce", "all_to_all", "send_recv")
_BYTES_PER_VALUE = 2
_BATCHES = 3
_MOST_CALLS, _FEWEST_CALLS = 100, 5
_WARM_UP_CALLS = 5


@dataclass(frozen=True, slots=True)
class CollectiveSizes:
    """Message sizes in bytes, and bytes that one timed batch moves at most (5 calls at least)."""

    message_bytes: tuple[int, ...]
    batch_bytes: int
    limit_seconds: float = 120.0

    def calls(self, size: int) -> int:
        """Calls in a batch; the same on all ranks, or a collective would wait for ever."""
        return max(_FEWEST_CALLS, min(_MOST_CALLS, self.batch_bytes // size))


GPU_MESSAGES = CollectiveSizes(tuple(2**k for k in range(10, 29, 2)), batch_bytes=8 * 2**30)
CPU_MESSAGES = CollectiveSizes(tuple(2**k for k in range(10, 23, 2)), batch_bytes=64 * 2**20)


def rank_counts(ranks: int) -> tuple[int, ...]:
    """Powers of two from 2 that fit into `ranks`, and `ranks` itself."""
    powers = [2**k for k in range(1, ranks.bit_length()) if 2**k <= ranks]
    return tuple(sorted({*powers, ranks} - {1}))


def measure_collectives(
    rank: int, folder: str, ranks: int, on_gpu: bool, sizes: CollectiveSizes
) -> list[dict[str, Any]]:
    """Measure as `rank` of `ranks`; the rows are complete on rank 0."""
    import torch
    from torch import distributed

    device = torch.device(f"cuda:{rank}" if on_gpu else "cpu")
    if on_gpu:
        torch.cuda.set_device(device)
    distributed.init_process_group(
        "nccl" if on_gpu else "gloo",
        # A file in place of a port: nothing can take it between choosing and binding.
        init_method=f"file://{Path(folder) / 'rendezvous'}",
        rank=rank,
        world_size=ranks,
        timeout=timedelta(seconds=sizes.limit_seconds),
    )
    rows = []
    for members in rank_counts(ranks):
        group = distributed.new_group(list(range(members)))
        if rank < members:
            rows += _measure_group(rank, members, group, device, sizes)
    distributed.destroy_process_group()
    return rows


def _measure_group(
    rank: int, members: int, group: Any, device: Any, sizes: CollectiveSizes
) -> list[dict[str, Any]]:
    operations = OPERATIONS if members == 2 else OPERATIONS[:2]
    return [
        _measure_point(operation, size, rank, members, group, device, sizes.calls(size))
        for operation in operations
        for size in sizes.message_bytes
    ]


def _measure_point(
    operation: str, size: int, rank: int, members: int, group: Any, device: Any, calls: int
) -> dict[str, Any]:
    import torch
    from torch import distributed

    values = size // _BYTES_PER_VALUE
    values -= values % members  # all_to_all sends an equal part to each rank
    # Zeros stay zeros, whatever the number of all-reduces.
    source = torch.zeros(values, dtype=torch.bfloat16, device=device)
    call = _call(operation, source, torch.empty_like(source), rank, group)
    for _ in range(_WARM_UP_CALLS):
        call()
    means = []
    for _ in range(_BATCHES):
        distributed.all_reduce(torch.zeros(1, device=device), group=group)  # start together
        means.append(batch_seconds(call, device, calls) / calls)
    slowest = torch.tensor(statistics.median(means), dtype=torch.float64, device=device)
    distributed.all_reduce(slowest, op=distributed.ReduceOp.MAX, group=group)
    return {
        "op": operation,
        "ranks": members,
        "message_bytes": values * _BYTES_PER_VALUE,
        "seconds": float(slowest.item()),
    }


def _call(operation: str, source: Any, target: Any, rank: int, group: Any) -> Callable[[], Any]:
    from torch import distributed

    if operation == "all_reduce":
        return lambda: distributed.all_reduce(source, group=group)
    if operation == "all_to_all":
        return lambda: distributed.all_to_all_single(target, source, group=group)
    if rank == 0:
        return lambda: distributed.send(source, 1, group=group)
    return lambda: distributed.recv(target, 0, group=group)
