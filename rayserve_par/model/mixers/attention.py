"""Attention with a KV cache: what it stores, reads and computes, per layer and rank.

    GQA   KV values per token  = ceil(kv_heads / tp) x (head_dim + v_head_dim)
          FLOPs per pair       = heads / tp x 2 (head_dim + v_head_dim)
          (multi-head attention: kv_heads = heads; multi-query: 1)
    MLA   KV values per token  = kv_lora_rank + qk_rope_head_dim, the same on every rank of a TP
          group: one latent vector serves all heads
          FLOPs per pair       = heads / tp x 2 (2 kv_lora_rank + qk_rope_head_dim) in a decode
          step (vLLM keeps the latent compressed), heads / tp x 2 (qk_nope + qk_rope + v) in a
          prefill
    index one FP8 key per token and a float32 scale per 128 values; heads x 2 x head_dim FLOPs per
          pair; not cut by TP. vLLM reads the KV of min(context, topk) tokens. A layer that
          shares another's index has neither weights nor keys of its own.

Left out: with an FP8 cache, FlashMLA's sparse kernel (Hopper) packs a token as 656 bytes where
the values alone are 576; rounding of a KV page.
Source: DeepSeek-V2 (arXiv 2405.04434), DeepSeek-V3.2 (arXiv 2512.02556); `FullAttentionSpec`,
`MLAAttentionSpec` and `Indexer` of vLLM (vllm/v1/kv_cache_interface.py,
vllm/model_executor/models/deepseek_v2.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from rayserve_par.model.component import Component
from rayserve_par.model.matrix import Matrix, Split, vector

_PART = Component.ATTENTION
_INDEX_SCALE_VALUES = 128
_INDEX_SCALE_BYTES = 4


@dataclass(frozen=True, slots=True)
class GqaAttention:
    """Grouped-query attention. Sizes in heads and in values per head.

    `output_gate` makes q_proj twice as wide (Qwen3-Next, Qwen3.5); `qk_norm` is one norm per head
    dimension, `qk_norm_whole` one over all heads together (OLMo-2, MiniMax-M2). With
    `keys_are_values` there is no v_proj, yet keys and values are cached apart (Gemma-4).
    """

    num_heads: int
    num_kv_heads: int
    head_dim: int
    v_head_dim: int | None = None
    qkv_bias: bool = False
    output_bias: bool = False
    qk_norm: bool = False
    qk_norm_whole: bool = False
    sinks: bool = False
    output_gate: bool = False
    keys_are_values: bool = False
    window_tokens: int | None = None
    name: str = "self_attn"

    @property
    def kind(self) -> str:
        """Grouped-query attention."""
        return "gqa"

    @property
    def value_dim(self) -> int:
        """Values per head of V."""
        return self.v_head_dim or self.head_dim

    def matrices(self, hidden_size: int) -> tuple[Matrix, ...]:
        """All weights, at base precision."""
        return tuple(self._projections(hidden_size)) + tuple(self._vectors(hidden_size))

    def _projections(self, hidden: int) -> Iterator[Matrix]:
        queries = self.num_heads * self.head_dim * (2 if self.output_gate else 1)
        yield Matrix(f"{self.name}.q_proj", _PART, queries, hidden, Split.COLUMNS)
        keys = [("k_proj", self.head_dim), ("v_proj", self.value_dim)]
        for name, dim in keys[:1] if self.keys_are_values else keys:
            rows, full = self.num_kv_heads * dim, f"{self.name}.{name}"
            yield Matrix(full, _PART, rows, hidden, Split.KV_HEADS, head_features=dim)
        inner = self.num_heads * self.value_dim
        yield Matrix(f"{self.name}.o_proj", _PART, hidden, inner, Split.ROWS)

    def _vectors(self, hidden: int) -> Iterator[Matrix]:
        queries = self.num_heads * self.head_dim
        if self.qkv_bias:
            wide = queries * (2 if self.output_gate else 1)
            yield vector(f"{self.name}.q_bias", _PART, wide, Split.COLUMNS)
            for name, dim in (("k_bias", self.head_dim), ("v_bias", self.value_dim)):
                rows, full = self.num_kv_heads * dim, f"{self.name}.{name}"
                yield Matrix(full, _PART, rows, 1, Split.KV_HEADS, head_features=dim)
        if self.output_bias:
            yield vector(f"{self.name}.o_bias", _PART, hidden, Split.WHOLE)
        if self.sinks:
            yield vector(f"{self.name}.sinks", _PART, self.num_heads, Split.COLUMNS)
        norms = Component.NORMS
        if self.qk_norm:
            yield vector(f"{self.name}.qk_norms", norms, self.head_dim, Split.WHOLE, copies=2)
        if self.qk_norm_whole:
            keys, dim = self.num_kv_heads * self.head_dim, self.head_dim
            yield vector(f"{self.name}.q_norm", norms, queries, Split.COLUMNS)
            yield Matrix(f"{self.name}.k_norm", norms, keys, 1, Split.KV_HEADS, head_features=dim)

    def kv_heads_per_rank(self, tp: int) -> int:
        """KV heads that one of `tp` ranks holds: heads are repeated when there are too few."""
        return ceil(self.num_kv_heads / tp)

    def kv_values_per_token_per_rank(self, tp: int) -> float:
        """Keys and values of one token."""
        return self.kv_heads_per_rank(tp) * (self.head_dim + self.value_dim)

    def index_bytes_per_token_per_rank(self, _tp: int, /) -> float:
        """No index."""
        return 0.0

    def state_bytes_per_request_per_rank(self, _tp: int, /) -> float:
        """No state."""
        return 0.0

    def attended_tokens(self, context_tokens: float) -> float:
        """The context, up to the window."""
        return min(context_tokens, self.window_tokens or context_tokens)

    def flops_per_pair_per_rank(self, tp: int, *, decode: bool) -> float:  # noqa: ARG002
        """Scores and weighted sum of all heads of a rank."""
        return self.num_heads / tp * 2 * (self.head_dim + self.value_dim)

    def index_flops_per_pair_per_rank(self, _tp: int, /) -> float:
        """No index."""
        return 0.0

    def flops_per_token_per_rank(self, _tp: int, /) -> float:
        """Nothing beside matrices and pairs."""
        return 0.0


@dataclass(frozen=True, slots=True)
class SparseIndex:
    """DeepSeek-V3.2's lightning indexer: chooses the `topk` tokens that a query attends to.

    `is_shared` marks a layer that takes over the choice of a layer before it.
    """

    num_heads: int
    head_dim: int
    topk: int
    is_shared: bool = False

    @property
    def bytes_per_token(self) -> float:
        """An FP8 key with its scales; 0 in a layer that shares another's."""
        if self.is_shared:
            return 0.0
        return self.head_dim + self.head_dim / _INDEX_SCALE_VALUES * _INDEX_SCALE_BYTES

    @property
    def flops_per_pair(self) -> float:
        """Scoring one key for one query."""
        return 0.0 if self.is_shared else 2.0 * self.num_heads * self.head_dim

    def matrices(self, name: str, hidden: int, query_rank: int) -> tuple[Matrix, ...]:
        """All weights of the indexer; every rank of a TP group has them whole."""
        if self.is_shared:
            return ()
        heads, dim, whole = self.num_heads, self.head_dim, Split.WHOLE
        return (
            Matrix(f"{name}.wq_b", _PART, heads * dim, query_rank, whole),
            Matrix(f"{name}.wk", _PART, dim, hidden, whole),
            Matrix(f"{name}.weights_proj", _PART, heads, hidden, whole),
            vector(f"{name}.k_norm", Component.NORMS, dim, whole, copies=2),
        )


@dataclass(frozen=True, slots=True)
class MlaAttention:
    """Multi-head latent attention. `q_lora_rank` is None where queries are not compressed."""

    num_heads: int
    q_lora_rank: int | None
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int
    index: SparseIndex | None = None
    name: str = "self_attn"

    @property
    def kind(self) -> str:
        """Multi-head latent attention."""
        return "mla"

    @property
    def num_kv_heads(self) -> int:
        """One latent vector serves every head."""
        return 1

    @property
    def window_tokens(self) -> int | None:
        """Every token is kept."""
        return None

    @property
    def head_dim(self) -> int:
        """Length of one query or key head in values."""
        return self.qk_nope_head_dim + self.qk_rope_head_dim

    def matrices(self, hidden_size: int) -> tuple[Matrix, ...]:
        """All weights, at base precision."""
        found = [*self._queries(hidden_size), *self._keys(hidden_size)]
        if self.index:
            name, rank = f"{self.name}.indexer", self.q_lora_rank or hidden_size
            found += self.index.matrices(name, hidden_size, rank)
        return tuple(found)

    def _queries(self, hidden: int) -> Iterator[Matrix]:
        queries, rank = self.num_heads * self.head_dim, self.q_lora_rank
        if rank is None:
            yield Matrix(f"{self.name}.q_proj", _PART, queries, hidden, Split.COLUMNS)
            return
        yield Matrix(f"{self.name}.q_a_proj", _PART, rank, hidden, Split.WHOLE)
        yield Matrix(f"{self.name}.q_b_proj", _PART, queries, rank, Split.COLUMNS)
        yield vector(f"{self.name}.q_a_layernorm", Component.NORMS, rank, Split.WHOLE)

    def _keys(self, hidden: int) -> Iterator[Matrix]:
        rank, heads = self.kv_lora_rank, self.num_heads
        latent = rank + self.qk_rope_head_dim
        yield Matrix(f"{self.name}.kv_a_proj_with_mqa", _PART, latent, hidden, Split.WHOLE)
        yield vector(f"{self.name}.kv_a_layernorm", Component.NORMS, rank, Split.WHOLE)
        rows = heads * (self.qk_nope_head_dim + self.v_head_dim)
        yield Matrix(f"{self.name}.kv_b_proj", _PART, rows, rank, Split.COLUMNS)
        inner = heads * self.v_head_dim
        yield Matrix(f"{self.name}.o_proj", _PART, hidden, inner, Split.ROWS)

    def kv_values_per_token_per_rank(self, _tp: int, /) -> float:
        """Latent and rotary values of one token; every TP rank holds them whole."""
        return self.kv_lora_rank + self.qk_rope_head_dim

    def index_bytes_per_token_per_rank(self, _tp: int, /) -> float:
        """The indexer's key of one token; every TP rank holds it whole."""
        return self.index.bytes_per_token if self.index else 0.0

    def state_bytes_per_request_per_rank(self, _tp: int, /) -> float:
        """No state."""
        return 0.0

    def attended_tokens(self, context_tokens: float) -> float:
        """The context; with an index at most its topk."""
        return min(context_tokens, self.index.topk if self.index else context_tokens)

    def flops_per_pair_per_rank(self, tp: int, *, decode: bool) -> float:
        """Scores and weighted sum of all heads of a rank."""
        latent = 2 * self.kv_lora_rank + self.qk_rope_head_dim
        return self.num_heads / tp * 2 * (latent if decode else self.head_dim + self.v_head_dim)

    def index_flops_per_pair_per_rank(self, _tp: int, /) -> float:
        """The indexer's scores; every TP rank computes them all."""
        return self.index.flops_per_pair if self.index else 0.0

    def flops_per_token_per_rank(self, _tp: int, /) -> float:
        """Nothing beside matrices and pairs."""
        return 0.0
