"""Attention by kind: what it stores per layer and per token.

    GQA   KV values per token and layer = 2 x num_kv_heads x head_dim
          (multi-head attention: num_kv_heads = num_heads; multi-query: 1)
    MLA   KV values per token and layer = kv_lora_rank + qk_rope_head_dim
          (one latent vector shared by all heads, so tensor parallelism does not divide it)

Source: DeepSeek-V2 (arXiv 2405.04434) for MLA; vLLM's `MLAAttentionSpec` and `FullAttentionSpec`
for what the engine allocates.
"""

from dataclasses import dataclass
from math import ceil
from typing import Literal


@dataclass(frozen=True, slots=True)
class GqaAttention:
    """Grouped-query attention. Sizes in heads and in values per head."""

    num_heads: int
    num_kv_heads: int
    head_dim: int
    qkv_bias: bool = False
    output_bias: bool = False
    qk_norm: bool = False
    sinks: bool = False
    kind: Literal["gqa"] = "gqa"

    def kv_heads_per_rank(self, tp: int) -> int:
        """KV heads that one of `tp` ranks holds: heads are repeated when there are too few."""
        return ceil(self.num_kv_heads / tp)

    def kv_values_per_token_per_rank(self, tp: int) -> int:
        """Keys and values of one token in one layer on one rank, in values."""
        return 2 * self.kv_heads_per_rank(tp) * self.head_dim


@dataclass(frozen=True, slots=True)
class MlaAttention:
    """Multi-head latent attention. `q_lora_rank` is None where queries are not compressed."""

    num_heads: int
    q_lora_rank: int | None
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int
    kind: Literal["mla"] = "mla"

    @property
    def num_kv_heads(self) -> int:
        """One latent vector serves every head."""
        return 1

    @property
    def head_dim(self) -> int:
        """Length of one query or key head in values."""
        return self.qk_nope_head_dim + self.qk_rope_head_dim

    def kv_values_per_token_per_rank(self, _tp: int) -> int:
        """Latent and rotary values of one token in one layer; every TP rank holds them whole."""
        return self.kv_lora_rank + self.qk_rope_head_dim


Attention = GqaAttention | MlaAttention
