"""CPU communicator with the two collectives of expert parallelism that vLLM's lacks.

With n ranks that hold s_0..s_(n-1) rows each:
`all_gatherv`: every rank gets all sum(s_i) rows, in rank order.
`reduce_scatterv`: the sum over ranks of sum(s_i) rows; rank i keeps its own s_i rows.
gloo has neither for unequal sizes, so rows are padded to the largest share, and the sum is an
all-reduce. On the CPU simplicity matters more than the bytes this moves needlessly.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from vllm.distributed.device_communicators.cpu_communicator import CpuCommunicator


class LogicalCpuCommunicator(CpuCommunicator):
    """vLLM's CPU communicator plus `all_gatherv` and `reduce_scatterv` along dimension 0."""

    def all_gatherv(
        self,
        input_: torch.Tensor | list[torch.Tensor],
        dim: int = 0,
        sizes: Sequence[int] | None = None,
    ) -> torch.Tensor | list[torch.Tensor]:
        if dim != 0:
            raise ValueError(f"all_gatherv works along dimension 0, not {dim}")
        if isinstance(input_, list):
            return [self._gather_rows(tensor, sizes) for tensor in input_]
        return self._gather_rows(input_, sizes)

    def reduce_scatterv(
        self, input_: torch.Tensor, dim: int = -1, sizes: Sequence[int] | None = None
    ) -> torch.Tensor:
        if dim not in (0, -input_.dim()):
            raise ValueError(f"reduce_scatterv works along dimension 0, not {dim}")
        total = input_.contiguous().clone()
        dist.all_reduce(total, group=self.device_group)
        if sizes is None:
            if total.shape[0] % self.world_size:
                raise ValueError(f"{total.shape[0]} rows do not divide by {self.world_size} ranks")
            sizes = [total.shape[0] // self.world_size] * self.world_size
        start = sum(sizes[: self.rank_in_group])
        return total[start : start + sizes[self.rank_in_group]].contiguous()

    def _gather_rows(self, rows: torch.Tensor, sizes: Sequence[int] | None) -> torch.Tensor:
        sizes = [rows.shape[0]] * self.world_size if sizes is None else list(sizes)
        padded = rows.new_zeros((max(sizes), *rows.shape[1:]))
        padded[: rows.shape[0]] = rows
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded, group=self.device_group)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])
