"""Memory that is neither weights nor KV cache: the first version's stated reserve.

    reserve  = context + activations + sampling                                     bytes
    context  = 1 GiB: driver context, NCCL buffers, CUDA graphs, allocator slack
    activations = T x (4 hidden + inner) x 2
        inner = 3 x intermediate / tp                         dense
                top_k x (2 x expert_intermediate / moe_tp + hidden)   MoE
    sampling = S x vocab x 4 x 2: float32 logits and one copy of them

T (batched tokens) and S (sequences) are vLLM's defaults for a server by memory: 16384 and 1024
from 160 GiB, 8192 and 1024 from 70 GiB (not A100), else 2048 and 256 (vllm/engine/arg_utils.py).
Against vLLM 0.25 on H200 (weights and KV subtracted from 0.92 of the memory): Llama-3.1-8B TP1
2.9 GiB here, 2.6 measured; TP2 2.6 and 2.1; Qwen3-30B-A3B TP1 2.7 and 2.8.
Left out: all-to-all buffers of expert parallelism, multimodal profiling, older engines (vLLM 0.11
kept about 2 GiB more).
"""

from rayserve_par.hardware.gpu import GIB, Gpu
from rayserve_par.model.spec import ModelSpec
from rayserve_par.sizing.rank_weights import RankSplit

CONTEXT_BYTES = 1.0 * GIB


def server_batch(gpu: Gpu) -> tuple[int, int]:
    """(batched tokens, sequences) that vLLM's server takes by default on this GPU."""
    if gpu.usable_gib >= 160:
        return 16384, 1024
    if gpu.usable_gib >= 70 and not gpu.name.startswith("A100"):
        return 8192, 1024
    return 2048, 256


def reserve_bytes(model: ModelSpec, gpu: Gpu, split: RankSplit) -> float:
    """Bytes to keep free on every rank beside weights and KV cache."""
    tokens, sequences = server_batch(gpu)
    inner = 3 * model.intermediate_size / split.tp
    if model.moe is not None:
        per_expert = 2 * model.moe.expert_intermediate_size / split.moe_tp + model.hidden_size
        inner = max(inner, model.moe.experts_per_token * per_expert)
    activations = tokens * (4 * model.hidden_size + inner) * 2
    sampling = sequences * model.vocab_size * 4 * 2
    return CONTEXT_BYTES + activations + sampling
