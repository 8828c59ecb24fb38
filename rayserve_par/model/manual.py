"""A model whose type no reader knows, by facts that its user gives.

    embedding    vocab_size x hidden_size                                  parameters, tied
    one layer    (weights_gib x 2^30 / (bits / 8) - embedding) / layers    parameters
    experts      (1 - f) / (1 - 1 / n) of a layer, n the power of two from 8 up that is >= 1 / f
    rest         of the layer: one matrix that TP cuts by its outputs
    KV values    kv_bytes_per_token_per_layer / (kv_cache_bits / 8), or 2 x kv_heads x head_dim

with f the share of a layer's parameters that one token uses. KV given in bytes counts as one head,
which every rank of a TP group holds whole (as MLA does), unless `kv_heads` is given too. Widths
are rounded down to a multiple of 64, so that any usual TP divides them; what that leaves over is
in the rest.
Left out: norms, biases, an untied head, windows, and what differs between layers.
"""

from math import ceil, isfinite

from rayserve_par.errors import RefusedError
from rayserve_par.model.component import Component
from rayserve_par.model.ffn import DenseMlp, Ffn, MoeMlp
from rayserve_par.model.layer import Layer
from rayserve_par.model.matrix import Matrix, Split
from rayserve_par.model.mixers.attention import GqaAttention
from rayserve_par.model.spec import ModelSpec
from rayserve_par.model.weight_format import WeightFormat

_WIDTH_MULTIPLE = 64
_VALUES_PER_KV_HEAD = 2


def manual_spec(
    name: str,
    *,
    weights_gib: float,
    layers: int,
    hidden_size: int,
    kv_heads: int | None = None,
    head_dim: int | None = None,
    kv_bytes_per_token_per_layer: float | None = None,
    num_heads: int | None = None,
    active_fraction: float = 1.0,
    bits: float = 16.0,
    kv_cache_bits: float = 16.0,
    vocab_size: int = 131072,
    max_context_tokens: int = 131072,
) -> ModelSpec:
    """The model that these facts describe.

    Args:
        name: what the model is called.
        weights_gib: all weights as stored, in GiB.
        layers: layers of the language model.
        hidden_size: width of a token's vector between layers.
        kv_heads: KV heads of a layer; with head_dim instead of the bytes.
        head_dim: values per head.
        kv_bytes_per_token_per_layer: bytes that a token adds to the KV cache of a layer.
        num_heads: query heads; as many as the KV heads unless given.
        active_fraction: the share of a layer's parameters that one token uses.
        bits: stored bits per parameter, scales included.
        kv_cache_bits: bits per value of the KV cache.
        vocab_size: tokens of the vocabulary.
        max_context_tokens: the longest context.

    Raises:
        RefusedError: a fact is missing or impossible.
    """
    _check(name, weights_gib=weights_gib, layers=layers, hidden_size=hidden_size, bits=bits)
    _check(name, parameters=weights_gib * 2**30 / (bits / 8))
    if not 0 < active_fraction <= 1:
        raise RefusedError(
            f"{name}: an active fraction of {active_fraction:g} is outside (0, 1]. Give active "
            "over total parameters."
        )
    stored = WeightFormat(f"{bits:g}-bit", bits, compute_bits=16.0 if bits > 8 else ceil(bits))
    embedding = Matrix(
        "embed_tokens", Component.EMBEDDING, vocab_size, hidden_size, Split.VOCABULARY, 1, 1, stored
    )
    weight_bytes = weights_gib * 2**30
    per_layer = int((weight_bytes - embedding.weight_bytes) * 8 / bits / layers)
    if per_layer < hidden_size * _WIDTH_MULTIPLE:
        raise RefusedError(
            f"{name}: {weights_gib:g} GiB of weights leave {per_layer} parameters for each of "
            f"{layers} layers beside an embedding of {vocab_size} x {hidden_size}. Check the "
            "weights, layers, hidden size and vocabulary."
        )
    values = _kv_values(name, kv_heads, head_dim, kv_bytes_per_token_per_layer, kv_cache_bits)
    kept = kv_heads or 1
    attention = GqaAttention(num_heads or kept, kept, ceil(values / kept / _VALUES_PER_KV_HEAD))
    layer = _layer(attention, per_layer, hidden_size, active_fraction, stored)
    return ModelSpec(
        name=name,
        model_type="manual",
        architecture="manual",
        hidden_size=hidden_size,
        vocab_size=vocab_size,
        max_context_tokens=max_context_tokens,
        layers=(layer,) * layers,
        embedding=embedding,
        head=(),
        tied_embeddings=True,
        kv_cache_bits=kv_cache_bits,
    )


def _check(name: str, **facts: float) -> None:
    for fact, value in facts.items():
        if not (value > 0 and isfinite(value)):
            raise RefusedError(f"{name}: {fact} is {value:g}; it must be above 0 and finite.")


def _kv_values(
    name: str, heads: int | None, head_dim: int | None, kv_bytes: float | None, bits: float
) -> float:
    """KV values of one token in one layer."""
    if kv_bytes is not None:
        _check(name, kv_bytes_per_token_per_layer=kv_bytes, kv_cache_bits=bits)
        values = kv_bytes * 8 / bits
        _check(name, kv_values_per_token_per_layer=values)
        return values
    if heads is None or head_dim is None:
        raise RefusedError(
            f"{name}: the KV cache is not known. Give the KV bytes per token and layer, or the KV "
            "heads and the head dimension."
        )
    _check(name, kv_heads=heads, head_dim=head_dim)
    return float(_VALUES_PER_KV_HEAD * heads * head_dim)


def _width(parameters: float, hidden_size: int) -> int:
    return int(parameters / hidden_size) // _WIDTH_MULTIPLE * _WIDTH_MULTIPLE


def _layer(
    attention: GqaAttention, parameters: int, hidden: int, active: float, stored: WeightFormat
) -> Layer:
    found: list[Matrix] = []
    ffn: Ffn | None = None
    experts = 8
    while experts < 1 / active:
        experts *= 2
    share = (1 - active) / (1 - 1 / experts)
    inner = _width(share * parameters / experts / 3, hidden)
    if inner:
        ffn = MoeMlp(experts, 1, inner)
        routed = (m for m in ffn.matrices(hidden) if m.component is Component.ROUTED_EXPERTS)
        found += [matrix.stored_as(stored) for matrix in routed]
        part = Component.ATTENTION
    else:
        ffn = DenseMlp(_width(parameters / 3, hidden))
        part = Component.DENSE_MLP
    rest = (parameters - sum(matrix.parameters for matrix in found)) // hidden
    found.append(Matrix("rest", part, rest, hidden, Split.COLUMNS, 1, 1, stored))
    return Layer(attention, ffn, tuple(found))
