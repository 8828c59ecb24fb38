"""Attention that reads the KV cache of an earlier layer (the last layers of small Gemma 4 models).

It has queries and output only, adds nothing to the cache, and computes as its own kind does.
Left out: a decode step's reads of the other layer's KV (nothing stored here to count them by).
Source: `Gemma4Attention` of vLLM (vllm/model_executor/models/gemma4.py).
"""

from dataclasses import dataclass

from rayserve_par.model.matrix import Matrix, Split
from rayserve_par.model.mixers.attention import GqaAttention


@dataclass(frozen=True, slots=True)
class SharedKvAttention:
    """`own` is the attention that this would be with a cache of its own."""

    own: GqaAttention

    @property
    def kind(self) -> str:
        """Grouped-query attention on another layer's KV."""
        return "shared_kv_gqa"

    @property
    def num_heads(self) -> int:
        """Query heads."""
        return self.own.num_heads

    @property
    def num_kv_heads(self) -> int:
        """No KV heads of its own."""
        return 0

    @property
    def window_tokens(self) -> int | None:
        """The window, as that of the layer whose KV it reads."""
        return self.own.window_tokens

    def matrices(self, hidden_size: int) -> tuple[Matrix, ...]:
        """Queries and output, at base precision."""
        found = self.own.matrices(hidden_size)
        return tuple(matrix for matrix in found if matrix.split is not Split.KV_HEADS)

    def kv_values_per_token_per_rank(self, tp: int) -> float:  # noqa: ARG002
        """Nothing is added."""
        return 0.0

    def index_bytes_per_token_per_rank(self, tp: int) -> float:  # noqa: ARG002
        """No index."""
        return 0.0

    def state_bytes_per_request_per_rank(self, tp: int) -> float:  # noqa: ARG002
        """No state."""
        return 0.0

    def attended_tokens(self, context_tokens: float) -> float:
        """The context, up to the window."""
        return self.own.attended_tokens(context_tokens)

    def flops_per_pair_per_rank(self, tp: int, *, decode: bool) -> float:
        """Scores and weighted sum of all heads of a rank."""
        return self.own.flops_per_pair_per_rank(tp, decode=decode)

    def index_flops_per_pair_per_rank(self, tp: int) -> float:  # noqa: ARG002
        """No index."""
        return 0.0

    def flops_per_token_per_rank(self, tp: int) -> float:  # noqa: ARG002
        """Nothing beside matrices and pairs."""
        return 0.0
