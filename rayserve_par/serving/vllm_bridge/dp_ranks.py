"""The DP ranks of an EP instance, one Ray actor in each rank's first bundle.

The replica holds only the front process. Each actor's process is the rank's engine core; it meets
the front over ZMQ at the handshake address and the other ranks over a TCP store that the replica
makes (vLLM makes one itself only when some engine core is local). vLLM watches local engine cores
only, and waits for the start of remote ones without end, so the caller watches `end_refs`.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import ray
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

if TYPE_CHECKING:
    from ray import ObjectRef
    from vllm.config import VllmConfig


class DpRankActor:
    """Ray actor whose process is the engine core of one DP rank."""

    def run(self, config: VllmConfig, dp_rank: int, handshake_address: str) -> None:
        """Run the engine core until it is shut down or fails."""
        from vllm.v1.engine.core import EngineCoreProc

        from rayserve_par.serving.vllm_bridge.executor import TopologyExecutor

        config = copy.copy(config)
        # Worker actors are named after the instance id; each DP rank needs names of its own.
        config.instance_id = f"{config.instance_id}-dp{dp_rank}"
        EngineCoreProc.run_engine_core(
            dp_rank=dp_rank,
            local_dp_rank=0,
            vllm_config=config,
            local_client=False,
            handshake_address=handshake_address,
            executor_class=TopologyExecutor,
            log_stats=True,
        )


@dataclass(slots=True)
class DpRanks:
    """The running rank actors of one instance and the store that they coordinate through."""

    actors: list[Any] = field(default_factory=list)
    end_refs: list[ObjectRef[None]] = field(default_factory=list)
    store: Any = None

    def kill(self) -> None:
        """Kill every rank actor; the workers that they own die with them."""
        for actor in self.actors:
            ray.kill(actor)


def prepare_dp_front(args: Any, node_address: str) -> None:
    """Set the arguments that make this process the front of remote DP ranks."""
    from vllm.utils.network_utils import get_open_port

    args.data_parallel_size_local = 0
    args.data_parallel_address = node_address
    args.data_parallel_rpc_port = get_open_port()


def start_dp_ranks(config: VllmConfig) -> DpRanks:
    """Start one actor per DP rank in the placement group of `config`; does not wait for them."""
    from vllm.distributed.utils import create_tcp_store
    from vllm.utils.network_utils import get_tcp_uri

    parallel = config.parallel_config
    address = parallel.data_parallel_master_ip
    store = create_tcp_store(address, 0, is_master=True, world_size=-1, wait_for_workers=False)
    parallel._coord_store_port = store.port
    handshake = get_tcp_uri(address, parallel.data_parallel_rpc_port)
    ranks = DpRanks(store=store)
    bundles_per_dp_rank = parallel.placement_group.bundle_count // parallel.data_parallel_size
    for dp_rank in range(parallel.data_parallel_size):
        bundle = PlacementGroupSchedulingStrategy(
            placement_group=parallel.placement_group,
            placement_group_bundle_index=dp_rank * bundles_per_dp_rank,
        )
        actor = ray.remote(DpRankActor).options(num_cpus=0, scheduling_strategy=bundle).remote()
        ranks.actors.append(actor)
        ranks.end_refs.append(actor.run.remote(config, dp_rank, handshake))
    return ranks
