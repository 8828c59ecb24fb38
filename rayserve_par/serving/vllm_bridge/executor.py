"""Executor that makes the plan's layout true: one bundle of `{"GPU": tp}` is one TP group.

vLLM wants bundles of one GPU and orders ranks by node itself. `RayExecutorV2._init_executor` takes
both from two module-level functions; for the length of that call they are replaced, so that rank r
of DP rank d runs in bundle d x pp + r // tp. Afterwards every rank's node, bundle and GPU are
written down where the replica and `rayserve-par status` read them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import ray
from ray.util.placement_group import placement_group_table
from vllm.v1.executor import ray_executor_v2

from rayserve_par.placement.bundles import bundle_of_rank
from rayserve_par.planning.layout import Layout
from rayserve_par.serving.rank_table import RankRecord, publish_ranks
from rayserve_par.serving.vllm_bridge.end_with_parent import end_with_parent
from rayserve_par.serving.vllm_bridge.own_place import own_place

if TYPE_CHECKING:
    from ray.util.placement_group import PlacementGroup
    from vllm.config import ParallelConfig

# vLLM's names for what is replaced; one lock, because the replacement is per process.
_PATCHED = ("initialize_ray_cluster", "get_bundles_sorted_by_node")
_patch_lock = threading.Lock()
# `ray.wait` returns as soon as a worker ends; this bounds only how late a shutdown is seen.
_WATCH_SECONDS = 1.0


class TopologyExecutor(ray_executor_v2.RayExecutorV2):
    """`RayExecutorV2` whose ranks go to the bundles that the plan gave them."""

    def _init_executor(self) -> None:
        with _patch_lock, _replaced(_use_given_group, _ranks_by_bundle(self.parallel_config)):
            super()._init_executor()
        self._publish_ranks()
        end_with_parent()

    def start_worker_monitor(self, inline: bool = False) -> None:
        """Leave the engine process as soon as one worker ends.

        vLLM's own monitor tells the engine loop, which may be waiting for that very worker; then
        requests in flight hang. The whole instance starts anew anyway.
        """
        ends = [handle.run_ref for handle in self.ray_worker_handles]

        def watch() -> None:
            while not self.shutting_down and ray.is_initialized():
                ended, _ = ray.wait(ends, num_returns=1, timeout=_WATCH_SECONDS)
                if ended and not self.shutting_down:
                    rank = ends.index(ended[0])
                    print(f"Rank {rank} ended; the engine leaves with it.", flush=True)
                    os._exit(1)

        self._monitor_thread = threading.Thread(target=watch, daemon=True, name="rank-watch")
        self._monitor_thread.start()

    def _publish_ranks(self) -> None:
        dp_rank = self.parallel_config.data_parallel_index
        # A worker's actor is busy with its loop from now on, so it is asked through that loop.
        places: list[tuple[str, str, int]] = self.collective_rpc(own_place)
        publish_ranks(
            self.parallel_config.placement_group.id.hex(),
            [
                RankRecord(
                    dp_rank=dp_rank,
                    rank=handle.rank,
                    bundle=handle.bundle_id_idx,
                    actor_id=actor_id,
                    node_id=node_id,
                    gpu=gpu,
                )
                for handle, (actor_id, node_id, gpu) in zip(
                    self.ray_worker_handles, places, strict=True
                )
            ],
        )


@contextmanager
def _replaced(*functions: Callable[..., Any]) -> Iterator[None]:
    before = [getattr(ray_executor_v2, name) for name in _PATCHED]
    for name, function in zip(_PATCHED, functions, strict=True):
        setattr(ray_executor_v2, name, function)
    try:
        yield
    finally:
        for name, function in zip(_PATCHED, before, strict=True):
            setattr(ray_executor_v2, name, function)


def _use_given_group(
    parallel_config: ParallelConfig,
    ray_address: str | None = None,  # noqa: ARG001 - vLLM's signature
    require_gpu_on_driver: bool = False,  # noqa: ARG001
) -> None:
    """Stand in for `initialize_ray_cluster`: connect, and take the group that Serve made."""
    if not ray.is_initialized():
        ray.init(address="auto", log_to_driver=False)
    if parallel_config.placement_group is None:
        raise RuntimeError("The engine was given no placement group; it must run in a replica.")


def _ranks_by_bundle(
    parallel_config: ParallelConfig,
) -> Callable[[PlacementGroup], list[tuple[int, str, str]]]:
    """Stand in for `get_bundles_sorted_by_node`: (bundle, node id, node address) of each rank."""
    tp, pp = parallel_config.tensor_parallel_size, parallel_config.pipeline_parallel_size
    layout = Layout(tp=tp, pp=pp, dp=parallel_config.data_parallel_size)
    dp_rank = parallel_config.data_parallel_index

    def ranks(group: PlacementGroup) -> list[tuple[int, str, str]]:
        node_of_bundle = placement_group_table(group)["bundles_to_node_id"]
        address = {n["NodeID"]: n["NodeManagerAddress"] for n in ray.nodes() if n["Alive"]}
        parts = group.bundle_count // layout.tp_groups
        bundles = [
            bundle_of_rank(layout, dp_rank, rank, bundles_per_tp_group=parts)
            for rank in range(tp * pp)
        ]
        return [(b, node_of_bundle[b], address[node_of_bundle[b]]) for b in bundles]

    return ranks
