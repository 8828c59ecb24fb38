"""Executor of an instance of one rank: the rank runs inside the engine process.

The replica actor itself holds the one GPU, and its engine process inherits it. Against a worker
process of its own this saves one process and, at every step, two hops through shared memory.
"""

from __future__ import annotations

import ray
from vllm.v1.executor.uniproc_executor import UniProcExecutor

from rayserve_par.serving.rank_table import RankRecord, publish_ranks
from rayserve_par.serving.vllm_bridge.end_with_parent import end_with_parent
from rayserve_par.serving.vllm_bridge.own_place import own_place


class SingleRankExecutor(UniProcExecutor):
    """vLLM's executor for one rank, in a process that ends with its replica."""

    def _init_executor(self) -> None:
        end_with_parent()
        super()._init_executor()


def publish_single_rank() -> None:
    """Write down where the one rank of this replica runs; to be called in the replica."""
    actor_id, node_id, gpu = own_place()
    record = RankRecord(dp_rank=0, rank=0, bundle=0, actor_id=actor_id, node_id=node_id, gpu=gpu)
    publish_ranks(ray.util.get_current_placement_group().id.hex(), [record])
