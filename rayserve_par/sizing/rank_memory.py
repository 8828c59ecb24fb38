"""Memory of every rank, and the KV tokens that remain.

    budget = usable bytes x gpu_memory_utilization
    KV     = budget - weights - reserve                               per rank, by stage
    kv_bytes_per_token_per_rank = layers of the stage x KV values per token and layer x bytes
    kv_tokens = floor to 16 (KV / kv_bytes_per_token_per_rank)         vLLM's block is 16 tokens

All ranks of a stage are alike, so a stage stands for its ranks; the stage with the fewest KV
tokens decides for the instance, as vLLM takes the least over its workers. Each DP rank has its
own KV cache: an instance holds dp x kv_tokens. MLA's KV is not divided by tp.
Left out: what sliding windows save. Reserve: reserve.py. Weights: rank_weights.py.
"""

from dataclasses import dataclass

from rayserve_par.errors import RefusedError
from rayserve_par.hardware.gpu import GIB, Gpu
from rayserve_par.model.spec import ModelSpec
from rayserve_par.sizing.rank_weights import RankSplit, stage_weight_bytes
from rayserve_par.sizing.reserve import reserve_bytes
from rayserve_par.sizing.stages import stage_ranges

KV_BLOCK_TOKENS = 16


@dataclass(frozen=True, slots=True)
class RankMemory:
    """Memory of a rank of PP stage `stage`, in bytes; `dp` ranks of that kind share nothing."""

    stage: int
    stages: int
    layers: int
    dp: int
    usable_bytes: float
    gpu_memory_utilization: float
    weight_bytes: float
    reserve_bytes: float
    kv_bytes_per_token_per_rank: float

    @property
    def budget_bytes(self) -> float:
        """What the engine may use in all."""
        return self.usable_bytes * self.gpu_memory_utilization

    @property
    def kv_bytes(self) -> float:
        """What is left for KV cache; negative where weights and reserve exceed the budget."""
        return self.budget_bytes - self.weight_bytes - self.reserve_bytes

    @property
    def kv_tokens(self) -> int:
        """Tokens that one DP rank can keep if this stage decides."""
        blocks = self.kv_bytes // (self.kv_bytes_per_token_per_rank * KV_BLOCK_TOKENS)
        return max(0, int(blocks)) * KV_BLOCK_TOKENS

    @property
    def kv_tokens_per_instance(self) -> int:
        """Tokens over all DP ranks of the instance."""
        return self.dp * self.kv_tokens

    def needed_bytes(self, tokens: int) -> float:
        """Weights, reserve and the KV cache of one request of `tokens` tokens."""
        return self.weight_bytes + self.reserve_bytes + tokens * self.kv_bytes_per_token_per_rank

    def fits(self, tokens: int) -> bool:
        """Whether one request of `tokens` tokens can be held."""
        return self.kv_tokens >= tokens

    def shortage(self, tokens: int) -> str:
        """The arithmetic of a request of `tokens` tokens against the budget."""
        kv = tokens * self.kv_bytes_per_token_per_rank
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
        each = self.kv_bytes_per_token_per_rank
        found = [
            f"fullest rank: stage {self.stage} of {self.stages}, {self.layers} layers",
            f"budget = {self.usable_bytes / GIB:.2f} GiB usable x {self.gpu_memory_utilization:g} "
            f"= {self.budget_bytes / GIB:.2f} GiB",
            f"weights = {self.weight_bytes / GIB:.2f} GiB",
            f"reserve (context, activations, sampling) = {self.reserve_bytes / GIB:.2f} GiB",
            f"KV cache = {self.budget_bytes / GIB:.2f} - {self.weight_bytes / GIB:.2f} - "
            f"{self.reserve_bytes / GIB:.2f} = {self.kv_bytes / GIB:.2f} GiB",
            f"KV tokens = {self.kv_bytes / GIB:.2f} GiB / {each:.0f} bytes per token and rank = "
            f"{self.kv_tokens:,}",
        ]
        if self.dp > 1:
            found.append(
                f"KV tokens of the instance = {self.dp} DP ranks x {self.kv_tokens:,} = "
                f"{self.kv_tokens_per_instance:,}"
            )
        return tuple(found)


def stage_memories(
    model: ModelSpec,
    gpu: Gpu,
    split: RankSplit,
    *,
    gpu_memory_utilization: float = 0.9,
    kv_dtype_bytes: float = 2.0,
) -> tuple[RankMemory, ...]:
    """Memory of a rank of every stage.

    Raises RefusedError for more stages than layers and for a utilization outside (0, 1].
    """
    if not 0 < gpu_memory_utilization <= 1:
        raise RefusedError(
            f"gpu_memory_utilization is {gpu_memory_utilization:g}; it must be above 0 and at "
            "most 1."
        )
    reserve = reserve_bytes(model, gpu, split)
    values = model.attention.kv_values_per_token_per_rank(split.tp)
    found = []
    for stage, layers in enumerate(stage_ranges(model.num_layers, split.pp)):
        ends = {"first": stage == 0, "last": stage == split.pp - 1}
        weights = stage_weight_bytes(model, split, layers, **ends)
        found.append(
            RankMemory(
                stage=stage,
                stages=split.pp,
                layers=len(layers),
                dp=split.dp,
                usable_bytes=gpu.usable_bytes,
                gpu_memory_utilization=gpu_memory_utilization,
                weight_bytes=sum(weights.values()),
                reserve_bytes=reserve,
                kv_bytes_per_token_per_rank=len(layers) * values * kv_dtype_bytes,
            )
        )
    return tuple(found)


def worst_rank_memory(
    model: ModelSpec,
    gpu: Gpu,
    split: RankSplit,
    *,
    gpu_memory_utilization: float = 0.9,
    kv_dtype_bytes: float = 2.0,
) -> RankMemory:
    """The stage with the fewest KV tokens (of several, the one with the least KV memory)."""
    stages = stage_memories(
        model,
        gpu,
        split,
        gpu_memory_utilization=gpu_memory_utilization,
        kv_dtype_bytes=kv_dtype_bytes,
    )
    return min(stages, key=lambda rank: (rank.kv_tokens, rank.kv_bytes))
