"""What every token mixer (attention of any kind, linear attention, state space) can tell.

Per layer and per rank of a TP group of `tp` ranks:

    KV bytes of one token             = kv_values_per_token_per_rank(tp) x kv_cache_bits / 8
                                        + index_bytes_per_token_per_rank(tp)
    KV bytes of a request of c tokens = that x min(c, window_tokens)
    state bytes of a request          = state_bytes_per_request_per_rank(tp)
    KV bytes read by a decode step    = attended_tokens(c) x kv_values_per_token_per_rank(tp) x ..
                                        + c x index_bytes_per_token_per_rank(tp)
    FLOPs of attention                = (query, attended key) pairs x flops_per_pair_per_rank(tp)
                                        + (query, any key) pairs x index_flops_per_pair_per_rank(tp)

The index is what a sparse attention keeps and scores of every token to choose those that it
attends to; its width does not follow the KV cache's dtype.
"""

from typing import Protocol

from rayserve_par.model.matrix import Matrix


class Mixer(Protocol):
    """One layer's token mixer."""

    @property
    def kind(self) -> str:
        """A short name: gqa, mla, gated_delta_net, mamba2 and so on."""

    @property
    def num_heads(self) -> int:
        """Heads that TP divides (query heads; value heads of a recurrent mixer)."""

    @property
    def num_kv_heads(self) -> int:
        """KV heads, repeated when TP exceeds them; 1 for MLA; 0 without a KV cache."""

    @property
    def window_tokens(self) -> int | None:
        """The sliding window; None where every token is kept."""

    def matrices(self, hidden_size: int, /) -> tuple[Matrix, ...]:
        """All weights, at base precision."""

    def kv_values_per_token_per_rank(self, tp: int, /) -> float:
        """Values that one token adds to the KV cache of one rank; 0 without one."""

    def index_bytes_per_token_per_rank(self, tp: int, /) -> float:
        """Bytes of a sparse attention's index that one token adds on one rank; 0 without one."""

    def state_bytes_per_request_per_rank(self, tp: int, /) -> float:
        """Bytes of fixed state that a request keeps on one rank; 0 without one."""

    def attended_tokens(self, context_tokens: float, /) -> float:
        """Tokens whose KV a decode step reads at this context."""

    def flops_per_pair_per_rank(self, tp: int, /, *, decode: bool) -> float:
        """Floating point operations of one query attending to one key, all heads of a rank."""

    def index_flops_per_pair_per_rank(self, tp: int, /) -> float:
        """Operations of the index scoring one key for one query; 0 without one."""

    def flops_per_token_per_rank(self, tp: int, /) -> float:
        """Operations per token beside matrices and pairs (state updates); 0 for attention."""


def kv_bytes_per_token_per_rank(mixer: Mixer, tp: int, kv_cache_bits: float) -> float:
    """Bytes that one token adds to a rank's caches in this layer, index included."""
    values = mixer.kv_values_per_token_per_rank(tp)
    return values * kv_cache_bits / 8 + mixer.index_bytes_per_token_per_rank(tp)
