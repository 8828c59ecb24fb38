"""What an engine is asked for, and which rules its version sizes memory by.

    tokens    max_num_batched_tokens: by GPU 16384 from 160 GiB, 8192 from 70 GiB (not A100), else
              2048; at most sequences x max_model_len
    sequences max_num_seqs: 1024, 1024, 256 on the same GPUs; at most tokens
    graphs    batch sizes captured: 1, 2, 4, every 8 up to 256, every 16 up to
              min(2 x sequences, 512); decode graphs for those up to `sequences` besides

Defaults are those of vLLM's server (`get_batch_defaults` in vllm/engine/arg_utils.py;
`_set_cudagraph_sizes` in vllm/config/vllm.py). The version's rules, read in the sources of
releases 0.11.2, 0.12, 0.16, 0.17, 0.19 to 0.21, 0.25, 0.26, 0.28, 0.29 and 0.32:

    0.12  NCCL's buffers are outside the budget: it starts before the first snapshot of memory
          (in 0.11.2 as well, yet the one log of 0.11 at TP 2 has them)
    0.17  top-k and top-p in Triton; before, a sort of all logits is the peak of memory
    0.20  PyTorch 2.11 on CUDA 13; CUDA graphs are estimated and taken off the KV cache
    0.21  "KV cache size" in tokens is concurrency x max_model_len; before, blocks // groups x
          block size
    0.25  model runner V2 for dense models, 0.29 for all; it counts graphs from 0.29
    0.26  KV of windows is reserved for every batch in flight, not for one; prefix caching of
          hybrids with states is on by default
"""

from dataclasses import dataclass
from typing import Literal

from rayserve_par.errors import RefusedError
from rayserve_par.hardware.gpu import Gpu
from rayserve_par.model.spec import ModelSpec

_V2_MOE_ARCHITECTURES = ("DeepseekV2ForCausalLM", "Qwen2MoeForCausalLM", "GraniteMoeForCausalLM")
_LARGEST_GRAPH = 512


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Arguments of one engine. None is the engine's default; `max_model_len` the model's length.

    `kv_cache_bits` None keeps what the checkpoint says; `version` is (major, minor).
    """

    gpu_memory_utilization: float = 0.9
    max_num_batched_tokens: int | None = None
    max_num_seqs: int | None = None
    max_model_len: int | None = None
    kv_cache_bits: float | None = None
    enforce_eager: bool = False
    engine: Literal["vllm"] = "vllm"
    version: tuple[int, int] = (0, 32)
    redundant_experts: int = 0
    speculative_tokens: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.gpu_memory_utilization <= 1:
            raise RefusedError(
                f"gpu_memory_utilization is {self.gpu_memory_utilization:g}; it must be above 0 "
                "and at most 1."
            )
        sizes = {
            "max_num_batched_tokens": self.max_num_batched_tokens,
            "max_num_seqs": self.max_num_seqs,
            "max_model_len": self.max_model_len,
        }
        for field, value in sizes.items():
            if value is not None and value < 1:
                raise RefusedError(f"{field} is {value}; it must be at least 1.")
        for field, least in (
            ("redundant_experts", self.redundant_experts),
            ("speculative_tokens", self.speculative_tokens),
        ):
            if least < 0:
                raise RefusedError(f"{field} is {least}; it must be at least 0.")

    def batch(self, gpu: Gpu, model: ModelSpec) -> tuple[int, int]:
        """(batched tokens, sequences) of one step on this GPU."""
        if gpu.usable_gib >= 160:
            tokens, sequences = 16384, 1024
        elif gpu.usable_gib >= 70 and not gpu.name.startswith("A100"):
            tokens, sequences = 8192, 1024
        else:
            tokens, sequences = 2048, 256
        sequences = self.max_num_seqs or sequences
        tokens = self.max_num_batched_tokens or min(tokens, sequences * self.model_len(model))
        return tokens, self.max_num_seqs or min(sequences, tokens)

    def model_len(self, model: ModelSpec) -> int:
        """Tokens of the longest request."""
        return self.max_model_len or model.max_context_tokens

    def cache_bits(self, model: ModelSpec) -> float:
        """Bits of one value of the KV cache."""
        return self.kv_cache_bits or model.kv_cache_bits

    def graphs(self, sequences: int) -> int:
        """CUDA graphs that are captured."""
        if self.enforce_eager:
            return 0
        largest = min(2 * sequences, _LARGEST_GRAPH)
        return _graphs_up_to(largest) + _graphs_up_to(min(sequences, largest))

    def runner_v2(self, model: ModelSpec) -> bool:
        """Whether vLLM's second model runner runs this model."""
        if self.version >= (0, 29):
            return True
        stateful = any(mixer.num_kv_heads == 0 for mixer in model.mixers)
        listed = not model.is_moe or model.architecture in _V2_MOE_ARCHITECTURES
        return self.version >= (0, 25) and listed and not stateful

    def graphs_in_budget(self, model: ModelSpec) -> bool:
        """Whether CUDA graphs are taken off the memory for KV cache."""
        if self.version < (0, 20) or self.enforce_eager:
            return False
        return self.version >= (0, 29) or not self.runner_v2(model)

    @property
    def sorts_logits(self) -> bool:
        """Whether the sampler sorts all logits."""
        return self.version < (0, 17)

    @property
    def nccl_in_budget(self) -> bool:
        """Whether NCCL's buffers are counted within gpu_memory_utilization."""
        return self.version < (0, 12)

    @property
    def counts_tokens_by_request(self) -> bool:
        """Whether the KV cache's size in tokens is that of requests of max_model_len."""
        return self.version >= (0, 21)

    @property
    def caches_hybrid_prefixes(self) -> bool:
        """Whether a hybrid keeps a second state per request, for prefix caching."""
        return self.version >= (0, 26)

    def batches_in_flight(self, pp: int) -> int:
        """Batches whose tokens a sliding window may still hold."""
        return pp + 1 if self.version >= (0, 26) else 1


def _graphs_up_to(largest: int) -> int:
    """How many of 1, 2, 4, 8, 16, ..., 256, 272, ..., 512 are at most `largest`."""
    below_8 = sum(size <= largest for size in (1, 2, 4))
    return below_8 + min(largest, 256) // 8 + max(0, largest - 256) // 16
