"""Memory of every rank, and the KV tokens that remain.

    budget    = usable bytes x gpu_memory_utilization
    KV        = budget - weights - reserve                          per rank, by PP stage
    blocks    = floor(KV / block bytes)                             kv_cache.py
    KV tokens = what the engine logs as its KV cache size: blocks / blocks of a request of
                max_model_len x max_model_len

All ranks of a stage are alike, so a stage stands for its ranks; the stage with the fewest blocks
decides for the instance, as vLLM takes the least over its workers. Each DP rank has its own KV
cache: an instance holds dp x kv_tokens. Weights: rank_weights.py. Reserve: reserve.py.
"""

from bisect import bisect_left
from dataclasses import dataclass, replace

from rayserve_par.hardware.gpu import GIB, Gpu
from rayserve_par.model.component import Component
from rayserve_par.model.spec import ModelSpec
from rayserve_par.sizing.engine_options import EngineOptions
from rayserve_par.sizing.kv_cache import KvPool, kv_layout
from rayserve_par.sizing.rank_weights import (
    RankSplit,
    WeightCuts,
    expert_padding,
    rotary_table_bytes,
    stages_weight_bytes,
)
from rayserve_par.sizing.reserve import Reserve, stage_reserves
from rayserve_par.sizing.stages import stage_ranges


@dataclass(frozen=True, slots=True)
class RankMemory:
    """Memory of a rank of PP stage `stage`, in bytes; `dp` ranks of that kind share nothing."""

    stage: int
    stages: int
    layers: int
    dp: int
    usable_bytes: float
    gpu_memory_utilization: float
    weights: tuple[tuple[Component, float], ...]
    rotary_bytes: float
    reserve: Reserve
    pool: KvPool
    kv_bytes_per_token_per_rank: float

    @property
    def budget_bytes(self) -> float:
        """What the engine may use in all."""
        return self.usable_bytes * self.gpu_memory_utilization

    @property
    def weight_bytes(self) -> float:
        """All weights, with the rotary tables."""
        return sum(size for _, size in self.weights) + self.rotary_bytes

    @property
    def reserve_bytes(self) -> float:
        """Everything beside weights and KV cache."""
        return self.reserve.total_bytes

    @property
    def kv_bytes(self) -> float:
        """What is left for KV cache; negative where weights and reserve exceed the budget."""
        return self.pool.kv_bytes

    @property
    def kv_tokens(self) -> int:
        """The engine's KV cache size in tokens, of one DP rank, if this stage decides."""
        return self.pool.tokens

    @property
    def kv_tokens_per_instance(self) -> int:
        """Tokens over all DP ranks of the instance."""
        return self.dp * self.kv_tokens

    def requests_at(self, context_tokens: float) -> float:
        """Requests of this length that one DP rank holds at once, windows and states counted."""
        return self.pool.requests_at(context_tokens)

    def needed_bytes(self, tokens: int) -> float:
        """Weights, reserve and the blocks of one request of `tokens` tokens."""
        return self.weight_bytes + self.reserve_bytes + self.pool.request_bytes(tokens)

    def headroom_bytes(self, tokens: int) -> float:
        """What the budget leaves beside one request of `tokens` tokens; negative without room."""
        return self.budget_bytes - self.needed_bytes(tokens)

    def fits(self, tokens: int) -> bool:
        """Whether one request of `tokens` tokens can be held."""
        return self.pool.fits(tokens)

    @property
    def longest_request(self) -> int:
        """Tokens of the longest request that one DP rank holds, at most its KV tokens."""
        lengths = range(1, self.kv_tokens + 1)
        return bisect_left(lengths, True, key=lambda tokens: not self.fits(tokens))

    def shortage(self, tokens: int) -> str:
        """The arithmetic of a request of `tokens` tokens against the budget."""
        kv = self.pool.request_bytes(tokens)
        need = self.needed_bytes(tokens)
        sign = "<=" if need <= self.budget_bytes else ">"
        return (
            f"weights {self.weight_bytes / GIB:.2f} GiB + reserve {self.reserve_bytes / GIB:.2f} "
            f"GiB + KV of one request of {tokens} tokens {kv / GIB:.2f} GiB = {need / GIB:.2f} GiB "
            f"{sign} {self.budget_bytes / GIB:.2f} GiB ({self.usable_bytes / GIB:.2f} GiB x "
            f"{self.gpu_memory_utilization:g}) per rank of stage {self.stage}"
        )

    @property
    def lines(self) -> tuple[str, ...]:
        """Every step with its numbers."""
        weights = " + ".join(
            f"{part.value.replace('_', ' ')} {size / GIB:.2f}" for part, size in self.weights
        )
        weights += f" + rotary tables {self.rotary_bytes / GIB:.2f}"
        pool = self.pool
        each = pool.blocks_of_request(pool.max_model_len)
        found = [
            f"fullest rank: stage {self.stage} of {self.stages}, {self.layers} layers",
            f"budget = {self.usable_bytes / GIB:.2f} GiB usable x {self.gpu_memory_utilization:g} "
            f"= {self.budget_bytes / GIB:.2f} GiB",
            f"weights = {weights} = {self.weight_bytes / GIB:.2f} GiB",
            *self.reserve.lines(),
            f"KV cache = {self.budget_bytes / GIB:.2f} - {self.weight_bytes / GIB:.2f} - "
            f"{self.reserve_bytes / GIB:.2f} = {self.kv_bytes / GIB:.2f} GiB",
            f"blocks = {self.kv_bytes / GIB:.2f} GiB / {pool.block_bytes:,.0f} bytes = "
            f"{pool.blocks:,}",
            f"a request of {pool.max_model_len:,} tokens takes {each:,} blocks",
            *(f"  {line}" for line in pool.formulas()),
            f"KV tokens = {pool.blocks:,} blocks / {each:,} x {pool.max_model_len:,} = "
            f"{self.kv_tokens:,}"
            if pool.by_request
            else f"KV tokens = {pool.blocks:,} blocks // groups x smallest block = "
            f"{self.kv_tokens:,}",
        ]
        if self.dp > 1:
            found.append(
                f"KV tokens of the instance = {self.dp} DP ranks x {self.kv_tokens:,} = "
                f"{self.kv_tokens_per_instance:,}"
            )
        return tuple(found)


def stage_memories(
    model: ModelSpec, gpu: Gpu, split: RankSplit, options: EngineOptions | None = None
) -> tuple[RankMemory, ...]:
    """Memory of a rank of every stage. Raises RefusedError for more stages than layers."""
    options = options or EngineOptions()
    ranges = stage_ranges(model.num_layers, split.pp)
    cuts = WeightCuts(split, options.redundant_experts, expert_padding(gpu))
    with_mtp = options.speculative_tokens > 0
    weights = stages_weight_bytes(model, cuts, ranges, with_mtp=with_mtp)
    reserves = stage_reserves(model, gpu, split, options)
    layout = kv_layout(model, split.tp, ranges, options)
    tokens, _ = options.batch(gpu, model)
    budget = gpu.usable_bytes * options.gpu_memory_utilization
    rotary = rotary_table_bytes(model)
    left = [
        budget - sum(weights[stage].values()) - rotary - reserves[stage].total_bytes
        for stage in range(split.pp)
    ]
    return tuple(
        RankMemory(
            stage=stage,
            stages=split.pp,
            layers=len(layers),
            dp=split.dp,
            usable_bytes=gpu.usable_bytes,
            gpu_memory_utilization=options.gpu_memory_utilization,
            weights=tuple(weights[stage].items()),
            rotary_bytes=rotary,
            reserve=reserves[stage],
            pool=KvPool(
                groups=layout.groups,
                block_bytes=layout.block_bytes_by_stage[stage],
                kv_bytes=left[stage],
                max_model_len=options.model_len(model),
                in_flight_tokens=tokens * options.batches_in_flight(split.pp),
                by_request=options.counts_tokens_by_request,
            ),
            kv_bytes_per_token_per_rank=layout.bytes_per_token(stage),
        )
        for stage, layers in enumerate(ranges)
    )


def worst_rank_memory(
    model: ModelSpec,
    gpu: Gpu,
    split: RankSplit,
    options: EngineOptions | None = None,
    *,
    gpu_memory_utilization: float | None = None,
) -> RankMemory:
    """The stage with the fewest KV tokens (of several, the one with the least KV memory).

    `gpu_memory_utilization` replaces that of `options`.
    """
    options = options or EngineOptions()
    if gpu_memory_utilization is not None:
        options = replace(options, gpu_memory_utilization=gpu_memory_utilization)
    stages = stage_memories(model, gpu, split, options)
    return min(stages, key=lambda rank: (rank.kv_tokens, rank.kv_bytes))
