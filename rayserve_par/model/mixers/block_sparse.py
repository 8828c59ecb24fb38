"""Block-sparse grouped-query attention with an index (MiniMax M3's MSA).

    KV values per token  = ceil(kv_heads / tp) x 2 head_dim
    index per token      = one key of index_head_dim values, bf16, whole on every rank
    attended tokens      = min(context, topk_blocks x block_size)
    FLOPs per pair       = heads / tp x 4 head_dim
    index FLOPs per pair = ceil(index_heads / tp) x 2 index_head_dim

Every index head chooses blocks for one KV head, so index queries are cut and repeated as KV heads
are. Left out: the index kept in FP8 (`indexer_kv_dtype`), which vLLM does not do by itself.
Source: MiniMax-M3 report (arXiv 2606.13392); `MiniMaxM3SparseAttention` and
`MiniMaxM3IndexerCache` of vLLM (vllm/models/minimax_m3/nvidia/model.py, common/indexer.py).
"""

from dataclasses import dataclass
from math import ceil

from rayserve_par.model.component import Component
from rayserve_par.model.matrix import Matrix, Split, vector
from rayserve_par.model.mixers.attention import GqaAttention

_INDEX_KEY_BYTES = 2


@dataclass(frozen=True, slots=True)
class BlockSparseAttention:
    """`dense` is the attention over the chosen blocks; the rest is the index that chooses them."""

    dense: GqaAttention
    index_heads: int
    index_head_dim: int
    block_size: int
    topk_blocks: int

    @property
    def kind(self) -> str:
        """Block-sparse grouped-query attention."""
        return "block_sparse_gqa"

    @property
    def num_heads(self) -> int:
        """Query heads."""
        return self.dense.num_heads

    @property
    def num_kv_heads(self) -> int:
        """KV heads."""
        return self.dense.num_kv_heads

    @property
    def window_tokens(self) -> int | None:
        """Every token is kept."""
        return None

    def matrices(self, hidden_size: int) -> tuple[Matrix, ...]:
        """All weights, at base precision."""
        part, dim, name = Component.ATTENTION, self.index_head_dim, self.dense.name
        queries = self.index_heads * dim
        return (
            *self.dense.matrices(hidden_size),
            Matrix(
                f"{name}.index_q_proj",
                part,
                queries,
                hidden_size,
                Split.KV_HEADS,
                head_features=dim,
            ),
            Matrix(f"{name}.index_k_proj", part, dim, hidden_size, Split.WHOLE),
            vector(f"{name}.index_norms", Component.NORMS, dim, Split.WHOLE, copies=2),
        )

    def kv_values_per_token_per_rank(self, tp: int) -> float:
        """Keys and values of one token."""
        return self.dense.kv_values_per_token_per_rank(tp)

    def index_bytes_per_token_per_rank(self, tp: int) -> float:  # noqa: ARG002
        """The index key of one token; every TP rank holds it whole."""
        return self.index_head_dim * _INDEX_KEY_BYTES

    def state_bytes_per_request_per_rank(self, tp: int) -> float:  # noqa: ARG002
        """No state."""
        return 0.0

    def attended_tokens(self, context_tokens: float) -> float:
        """The context, up to the chosen blocks."""
        return min(context_tokens, self.topk_blocks * self.block_size)

    def flops_per_pair_per_rank(self, tp: int, *, decode: bool) -> float:
        """Scores and weighted sum of all heads of a rank."""
        return self.dense.flops_per_pair_per_rank(tp, decode=decode)

    def index_flops_per_pair_per_rank(self, tp: int) -> float:
        """Scores of the index heads of a rank."""
        return ceil(self.index_heads / tp) * 2 * self.index_head_dim

    def flops_per_token_per_rank(self, tp: int) -> float:  # noqa: ARG002
        """Nothing beside matrices and pairs."""
        return 0.0
