"""Peak of activations while the engine runs its largest batch with dummy tokens, per rank.

    live values per token = 4 hidden + the widest part of a layer
        mixer, dense MLP, shared experts = sum of out of matrices cut by columns or whole
                                           + sum of in of those cut by rows
        routed experts                   = k x (max(2 inner / moe_tp, width) + inner / moe_tp)
    forward  = T x live values x 2
               + MLA: min(max(8 L, 4 S block), 65536) x heads / tp x (nope + v) x 2, the output of
               kv_b_proj for a chunk of earlier context
    experts' share of T is T x dp where ep spans DP ranks: every rank gathers all their tokens and
    scatters the sums back
    exchange = 2 x T x dp x width x 2                             the two ends of that
    encoder  = E x (4 x (widest matrix of the tower + 3 x its input) + hidden) x 2
               E = max(T, 16384) embeddings, each from 2 x 2 patches
    sampling = T x hidden x 2 (the batch's output is still held) + S x vocab x 4 x n
               n = 9.5 where all logits are sorted: logits at 16 and 32 bits 1.5, sorted values 1,
                   their indices 2, the sort's own buffers 5
               n = 3.5 in Triton or FlashInfer: logits 1.5, probabilities 1, noise 1
               n = 0.5 in model runner V2: logits; its counts for penalties stay allocated:
    counters = S x vocab x (4 + 1/8)

T batched tokens, S sequences, L max_model_len, k experts per token. Attention is not run. What is
freed before the next part runs is not counted, so forward, encoder and sampling do not add up:
the largest decides. On the logs of vLLM 0.11 (evidence/measured_memory.jsonl) sampling is the peak
and 9.5 gives all three within 0.01 GiB.
Left out: chunks of experts below 0.21, all-to-all backends other than gather and scatter (DeepEP
takes a fixed buffer), frames of video.
Source: `_dummy_run` and `_dummy_sampler_run` in vllm/v1/worker/gpu_model_runner.py,
vllm/v1/worker/gpu/sample/, `determine_chunked_prefill_workspace_size` in
vllm/model_executor/layers/attention/mla_attention.py, `fused_experts` workspaces in
vllm/model_executor/layers/fused_moe/.
"""

from dataclasses import dataclass

from rayserve_par.model.component import Component
from rayserve_par.model.layer import Layer
from rayserve_par.model.matrix import Matrix, Split
from rayserve_par.model.mixers.attention import MlaAttention
from rayserve_par.model.spec import ModelSpec
from rayserve_par.sizing.rank_weights import RankSplit

_BYTES = 2
_RESIDUAL_COPIES = 4
_MLA_CONTEXT_LIMIT = 65536
_MLA_CONTEXT_REQUESTS = 8
_MLA_CONTEXT_BLOCKS = 4
_BLOCK_TOKENS = 16
_ENCODER_TOKENS = 16384
_PATCHES_PER_TOKEN = 4
_LOGITS_BYTES = 4
SORTED, FILTERED, PLAIN = 9.5, 3.5, 0.5
_COUNTER_BYTES = 4 + 1 / 8
_PARTS = {
    Component.ATTENTION: "mixer",
    Component.RECURRENT: "mixer",
    Component.DENSE_MLP: "mlp",
    Component.SHARED_EXPERTS: "shared",
}


@dataclass(frozen=True, slots=True)
class Batch:
    """The largest batch of a step."""

    tokens: int
    sequences: int
    max_model_len: int


def layer_values_per_token(layer: Layer, split: RankSplit) -> float:
    """Live values per token of the widest part but the routed experts."""
    widths: dict[str, float] = {}
    for matrix in layer.matrices:
        part = _PARTS.get(matrix.component)
        if part and not matrix.is_vector:
            widths[part] = widths.get(part, 0.0) + _width(matrix, split)
    return max(widths.values(), default=0.0)


def _width(matrix: Matrix, split: RankSplit) -> float:
    whole = matrix.component is Component.SHARED_EXPERTS and split.shared_experts_whole
    ranks = 1 if whole else split.tp
    if matrix.split is Split.ROWS:
        return matrix.copies * matrix.in_features / ranks
    if matrix.split is Split.WHOLE:
        ranks = 1
    elif matrix.split is Split.KV_HEADS:
        ranks = min(ranks, matrix.out_features // matrix.head_features)
    return matrix.copies * matrix.out_features / ranks


def routed_bytes(layer: Layer, split: RankSplit, hidden_size: int, tokens: int) -> float:
    """Workspaces of the routed experts for one batch."""
    moe = layer.moe
    if moe is None:
        return 0.0
    inner, width = moe.expert_intermediate_size / split.moe_tp, moe.latent_size or hidden_size
    first = max((2 if moe.gated else 1) * inner, width)
    return gathered_tokens(split, tokens) * moe.experts_per_token * (first + inner) * _BYTES


def gathered_tokens(split: RankSplit, tokens: int) -> int:
    """Tokens that the experts of one rank see."""
    return tokens * split.dp if split.ep > 1 else tokens


def exchange_bytes(model: ModelSpec, split: RankSplit, tokens: int) -> float:
    """The tokens of all DP ranks before the experts and the sums after them."""
    moe = model.moe
    if moe is None or split.dp == 1 or split.ep == 1:
        return 0.0
    width = moe.latent_size or model.hidden_size
    return 2 * gathered_tokens(split, tokens) * width * _BYTES


def mla_context_bytes(layer: Layer, split: RankSplit, batch: Batch) -> float:
    """kv_b_proj's output for a chunk of earlier context; none with a sparse index."""
    mixer = layer.mixer
    if not isinstance(mixer, MlaAttention) or mixer.index:
        return 0.0
    full = _MLA_CONTEXT_REQUESTS * batch.max_model_len
    pages = _MLA_CONTEXT_BLOCKS * batch.sequences * _BLOCK_TOKENS
    rows = min(max(full, pages), _MLA_CONTEXT_LIMIT)
    values = mixer.num_heads / split.tp * (mixer.qk_nope_head_dim + mixer.v_head_dim)
    return rows * values * _BYTES


def forward_bytes(model: ModelSpec, split: RankSplit, batch: Batch) -> float:
    """Peak of one pass over the layers."""
    residual = _RESIDUAL_COPIES * model.hidden_size
    widest = 0.0
    for layer, _ in model.layer_counts:
        plain = batch.tokens * layer_values_per_token(layer, split) * _BYTES
        plain += mla_context_bytes(layer, split, batch)
        routed = routed_bytes(layer, split, model.hidden_size, batch.tokens)
        widest = max(widest, plain, routed)
    return batch.tokens * residual * _BYTES + widest


def encoder_bytes(model: ModelSpec, split: RankSplit, batch: Batch) -> float:
    """Peak of the vision tower on its largest input; 0 without one."""
    inner = [matrix for matrix in model.vision if not matrix.is_vector]
    if not inner:
        return 0.0
    widest = max(m.out_features / split.tp + 3 * m.in_features for m in _blocks(inner))
    tokens = max(batch.tokens, _ENCODER_TOKENS)
    return tokens * (_PATCHES_PER_TOKEN * widest + model.hidden_size) * _BYTES


def _blocks(matrices: list[Matrix]) -> list[Matrix]:
    """The matrices of the tower's repeated blocks: those that occur most."""
    most = max(matrix.copies for matrix in matrices)
    return [matrix for matrix in matrices if matrix.copies == most]


def sampling_bytes(model: ModelSpec, batch: Batch, times: float) -> float:
    """Peak of choosing one token for every sequence, all logits gathered on the rank."""
    logits = batch.sequences * model.vocab_size * _LOGITS_BYTES
    return batch.tokens * model.hidden_size * _BYTES + times * logits


def counter_bytes(model: ModelSpec, batch: Batch) -> float:
    """How often each sequence has had each token, and a bit for its prompt."""
    return batch.sequences * model.vocab_size * _COUNTER_BYTES
