"""A layout that is legal and fits, with the memory and the speed that it would have.

The operating point is the number of concurrent requests at which an instance serves the most
tokens per second within the workload's limits: streams are doubled from 1 until a limit breaks or
KV memory is full, and the last step is halved once more. A layout that breaks a limit with one
stream keeps that point and says so. LATENCY looks at one stream only.

An instance takes GPUs out of its group, those included that it leaves idle: inside a node
gpus_per_node / floor(TP groups a node holds / those of an instance); over nodes its own.
"""

from dataclasses import dataclass
from functools import cached_property

from rayserve_par.hardware.cluster import NodeGroup
from rayserve_par.model.spec import ModelSpec
from rayserve_par.planning.layout import Layout
from rayserve_par.planning.legality import illegal, split_of
from rayserve_par.planning.performance import Constants, OperatingPoint, Predictor, predictor
from rayserve_par.planning.request import Target, Workload
from rayserve_par.planning.spread import Spread
from rayserve_par.sizing.engine_options import EngineOptions
from rayserve_par.sizing.rank_memory import RankMemory, worst_rank_memory
from rayserve_par.sizing.rule_of_thumb import RuleOfThumb, size_by_rule


@dataclass(frozen=True)
class Need:
    """What a candidate must hold and do: the model, one request, and the workload."""

    model: ModelSpec
    kv_allowance: float
    request_tokens: int
    options: EngineOptions
    workload: Workload
    constants: Constants | None = None

    def rule(self, group: NodeGroup) -> RuleOfThumb:
        """The rule of thumb on these nodes."""
        return size_by_rule(self.model, group.gpu, group.gpus_per_node, self.kv_allowance)

    def memory(self, layout: Layout, group: NodeGroup) -> RankMemory:
        """The fullest rank of `layout` on these nodes."""
        return worst_rank_memory(self.model, group.gpu, split_of(layout), self.options)

    def most_streams(self, group: NodeGroup) -> int:
        """Sequences that the engine runs at once in one DP rank (its max_num_seqs)."""
        return self.options.batch(group.gpu, self.model)[1]

    def predictor(self, spread: Spread) -> Predictor:
        """The performance model of a layout on its nodes, or inside one NVLink domain of them."""
        joined = in_one_domain(spread)
        nodes = 1 if joined else -(-spread.nodes_per_instance // spread.layout.pp)
        return predictor(
            self.model,
            spread.group.gpu,
            spread.layout,
            kv_cache_bits=self.options.kv_cache_bits,
            stages_share_a_node=joined,
            nodes_per_stage=nodes,
            constants=self.constants,
        )


@dataclass(frozen=True)
class Candidate:
    """One layout on one node group. `point` is where it would run."""

    group: NodeGroup
    layout: Layout
    spread: Spread
    memory: RankMemory
    point: OperatingPoint
    workload: Workload

    @property
    def in_one_domain(self) -> bool:
        """Whether the instance is inside one node, or one NVLink domain over several."""
        return in_one_domain(self.spread)

    @property
    def requests(self) -> float:
        """Requests of the workload's length that the KV memory of an instance holds."""
        return self.layout.dp * self.memory.requests_at(self.workload.tokens)

    @property
    def gpus_taken(self) -> float:
        """GPUs that an instance takes, with those of a node that no other instance can use."""
        return self.spread.gpus_taken

    @property
    def tokens_per_second_per_gpu_taken(self) -> float:
        """Output tokens per second at the point, over all GPUs that the instance takes."""
        return self.point.tokens_per_second / self.gpus_taken

    @property
    def excess(self) -> float:
        """The larger share of a limit that the point uses up; above 1 it breaks that limit."""
        return max(
            self.point.ttft_seconds / self.workload.ttft_limit,
            self.point.tpot_seconds / self.workload.tpot_limit,
        )

    @property
    def meets_limits(self) -> bool:
        """Whether the point is within the workload's limits."""
        return self.excess <= 1

    @property
    def carries_rate(self) -> bool:
        """Whether the group holds as many instances as the workload's rate needs, if it has one."""
        rate = self.workload.requests_per_second
        return rate is None or self.instances_for(rate) <= self.spread.instances

    @cached_property
    def dollars_per_million_tokens(self) -> float | None:
        """Output tokens at the list price; None where the GPU has none."""
        price = self.group.gpu.price_per_hour_usd
        if price is None:
            return None
        return price * self.gpus_taken / 3600 / self.point.tokens_per_second * 1e6

    def instances_for(self, requests_per_second: float) -> int:
        """Instances that carry this rate."""
        return max(1, -int(-requests_per_second // self.point.requests_per_second))


def in_one_domain(spread: Spread) -> bool:
    """Whether an instance is inside one node, or one NVLink domain over several."""
    limit = spread.group.tp_limit
    spans = limit > spread.group.gpus_per_node
    return spread.nodes_per_instance == 1 or (spans and spread.layout.gpus <= limit)


def candidate_at(need: Need, spread: Spread, memory: RankMemory, target: Target) -> Candidate:
    """A legal layout that fits, at its operating point."""
    found = need.predictor(spread)
    most = need.most_streams(spread.group)
    point = _operating_point(found, need.workload, memory, target, most)
    return Candidate(spread.group, spread.layout, spread, memory, point, need.workload)


def _operating_point(
    found: Predictor, workload: Workload, memory: RankMemory, target: Target, sequences: int
) -> OperatingPoint:
    layout = found.load.layout
    room = max(1.0, memory.requests_at(workload.tokens))

    def at(per_dp_rank: float) -> OperatingPoint:
        return found.at(isl=workload.isl, osl=workload.osl, streams=per_dp_rank * layout.dp)

    def within(point: OperatingPoint) -> bool:
        return (
            point.ttft_seconds <= workload.ttft_limit and point.tpot_seconds <= workload.tpot_limit
        )

    best = at(1)
    if target is Target.LATENCY or not within(best):
        return best
    streams, most = 1, int(min(room, sequences))
    while streams < most:
        point = at(min(2 * streams, most))
        if not within(point):
            between = streams + streams // 2
            halved = at(between) if between < most else best
            return halved if within(halved) else best
        best, streams = point, min(2 * streams, most)
    return best


def reasons_against(need: Need, layout: Layout, group: NodeGroup) -> tuple[str, ...]:
    """Legality first, then memory on the fullest rank; empty where the layout can be."""
    against = illegal(need.model, layout, group)
    if against:
        return against
    rank = need.memory(layout, group)
    return () if rank.fits(need.request_tokens) else (rank.shortage(need.request_tokens),)
