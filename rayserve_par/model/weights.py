"""Every weight matrix of a model, with the dimension that parallelism cuts.

    parameters of a matrix = copies x out_features x in_features

Splits (what a rank of a TP group of size tp holds; experts: moe_tp and ep instead):

    COLUMNS     out_features / tp             q, gate, up, biases and sinks per head
    ROWS        in_features / tp              o, down
    KV_HEADS    ceil(num_kv_heads / tp) heads  k, v: repeated when tp exceeds the heads
    VOCABULARY  ceil64(out_features) / tp     embedding, head: vLLM pads to a multiple of 64
    WHOLE       everything                    norms, router, MLA's down-projections, o bias

Left out: rotary tables, multi-token-prediction layers and buffers (scores, expert maps).
Source: the linear layers of `vllm/model_executor/models/{llama,qwen3_moe,deepseek_v2,gpt_oss}.py`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from rayserve_par.model.attention import GqaAttention, MlaAttention
from rayserve_par.model.precision import Component, Precision

if TYPE_CHECKING:
    from rayserve_par.model.spec import ModelSpec


class Split(StrEnum):
    """Which dimension of a matrix a TP group cuts."""

    COLUMNS = "columns"
    ROWS = "rows"
    KV_HEADS = "kv_heads"
    VOCABULARY = "vocabulary"
    WHOLE = "whole"


@dataclass(frozen=True, slots=True)
class Matrix:
    """`copies` alike matrices. A vector (norm, bias) has in_features 1 and is not quantised.

    `head_features` is the width of one KV head for Split.KV_HEADS, the unit that is not cut.
    """

    name: str
    component: Component
    out_features: int
    in_features: int
    split: Split
    copies: int = 1
    head_features: int = 1

    @property
    def parameters(self) -> int:
        """Number of values in all copies."""
        return self.copies * self.out_features * self.in_features

    def bytes_at(self, precision: Precision) -> float:
        """Bytes of all copies; vectors stay at the base precision."""
        if self.in_features == 1:
            return self.parameters * precision.base_bits / 8
        one = precision.matrix_bytes(self.component, self.out_features, self.in_features)
        return self.copies * one


def _vector(name: str, component: Component, length: int, split: Split, copies: int = 1) -> Matrix:
    return Matrix(name, component, length, 1, split, copies)


def _gqa(attention: GqaAttention, hidden: int) -> Iterator[Matrix]:
    part = Component.ATTENTION
    dim, queries = attention.head_dim, attention.num_heads * attention.head_dim
    keys = attention.num_kv_heads * dim
    yield Matrix("q_proj", part, queries, hidden, Split.COLUMNS)
    for name in ("k_proj", "v_proj"):
        yield Matrix(name, part, keys, hidden, Split.KV_HEADS, head_features=dim)
    yield Matrix("o_proj", part, hidden, queries, Split.ROWS)
    if attention.qkv_bias:
        yield _vector("q_bias", part, queries, Split.COLUMNS)
        for name in ("k_bias", "v_bias"):
            yield Matrix(name, part, keys, 1, Split.KV_HEADS, head_features=dim)
    if attention.output_bias:
        yield _vector("o_bias", part, hidden, Split.WHOLE)
    if attention.sinks:
        yield _vector("sinks", part, attention.num_heads, Split.COLUMNS)
    if attention.qk_norm:
        yield _vector("qk_norms", Component.NORMS, dim, Split.WHOLE, copies=2)


def _mla(attention: MlaAttention, hidden: int) -> Iterator[Matrix]:
    part, heads = Component.ATTENTION, attention.num_heads
    queries = heads * attention.head_dim
    if attention.q_lora_rank is None:
        yield Matrix("q_proj", part, queries, hidden, Split.COLUMNS)
    else:
        yield Matrix("q_a_proj", part, attention.q_lora_rank, hidden, Split.WHOLE)
        yield Matrix("q_b_proj", part, queries, attention.q_lora_rank, Split.COLUMNS)
        yield _vector("q_a_norm", Component.NORMS, attention.q_lora_rank, Split.WHOLE)
    latent = attention.kv_lora_rank + attention.qk_rope_head_dim
    yield Matrix("kv_a_proj", part, latent, hidden, Split.WHOLE)
    yield _vector("kv_a_norm", Component.NORMS, attention.kv_lora_rank, Split.WHOLE)
    per_head = attention.qk_nope_head_dim + attention.v_head_dim
    yield Matrix("kv_b_proj", part, heads * per_head, attention.kv_lora_rank, Split.COLUMNS)
    yield Matrix("o_proj", part, hidden, heads * attention.v_head_dim, Split.ROWS)


def _gated_mlp(part: Component, hidden: int, inner: int, copies: int = 1) -> Iterator[Matrix]:
    yield Matrix("gate_proj", part, inner, hidden, Split.COLUMNS, copies)
    yield Matrix("up_proj", part, inner, hidden, Split.COLUMNS, copies)
    yield Matrix("down_proj", part, hidden, inner, Split.ROWS, copies)


def layer_matrices(model: "ModelSpec", *, is_moe: bool) -> tuple[Matrix, ...]:
    """Weights of one layer, dense or MoE."""
    hidden = model.hidden_size
    found: list[Matrix] = [_vector("norms", Component.NORMS, hidden, Split.WHOLE, copies=2)]
    if isinstance(model.attention, MlaAttention):
        found += _mla(model.attention, hidden)
    else:
        found += _gqa(model.attention, hidden)
    moe = model.moe
    if not is_moe or moe is None:
        found += _gated_mlp(Component.DENSE_MLP, hidden, model.intermediate_size)
        return tuple(found)
    experts, inner = moe.num_experts, moe.expert_intermediate_size
    found.append(Matrix("router", Component.ROUTER, experts, hidden, Split.WHOLE))
    if moe.router_bias:
        found.append(_vector("router_bias", Component.ROUTER, experts, Split.WHOLE))
    found += _gated_mlp(Component.ROUTED_EXPERTS, hidden, inner, experts)
    if moe.expert_bias:
        part = Component.ROUTED_EXPERTS
        found.append(_vector("gate_up_bias", part, 2 * inner, Split.COLUMNS, experts))
        found.append(_vector("down_bias", part, hidden, Split.WHOLE, experts))
    if moe.shared_intermediate_size:
        found += _gated_mlp(Component.SHARED_EXPERTS, hidden, moe.shared_intermediate_size)
    return tuple(found)


def embedding_matrix(model: "ModelSpec") -> Matrix:
    """The token embedding, held by the first PP stage."""
    size = model.vocab_size, model.hidden_size
    return Matrix("embed_tokens", Component.EMBEDDING, *size, Split.VOCABULARY)


def head_matrices(model: "ModelSpec") -> tuple[Matrix, ...]:
    """The final norm and the head, held by the last PP stage; the head is its own if untied."""
    norm = _vector("final_norm", Component.NORMS, model.hidden_size, Split.WHOLE)
    if model.tied_embeddings:
        return (norm,)
    size = model.vocab_size, model.hidden_size
    return (norm, Matrix("lm_head", Component.HEAD, *size, Split.VOCABULARY))
