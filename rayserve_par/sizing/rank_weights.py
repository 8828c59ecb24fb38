"""Bytes of weights that one rank holds.

    COLUMNS, ROWS   the cut dimension / tp          (routed experts: / moe_tp)
    KV_HEADS        ceil(num_kv_heads / tp) heads: repeated when tp exceeds the heads
    VOCABULARY      ceil(ceil64(vocab) / tp) rows
    WHOLE           everything
    routed experts  ceil(num_experts / ep) of them, each cut by moe_tp = tp x dp / ep

Attention, dense and shared experts are the same on every DP rank. Shared experts are whole on
every rank where an engine runs MoE layers on sequence shards: ep > 1, tp > 1 and dp > 1
(`use_sequence_parallel_moe` in vllm/config/parallel.py). The embedding is on the first stage and
the head on the last; a tied head is a second copy of the embedding when pp > 1.
Left out: redundant experts, and MLA's up-projections in the layout that decoding uses.
"""

from dataclasses import dataclass, replace
from math import ceil

from rayserve_par.model.precision import Component, Precision
from rayserve_par.model.spec import ModelSpec
from rayserve_par.model.weights import (
    Matrix,
    Split,
    embedding_matrix,
    head_matrices,
    layer_matrices,
)

_VOCABULARY_PADDING = 64


@dataclass(frozen=True, slots=True)
class RankSplit:
    """How one instance cuts its weights; see planning.layout for the rules between the four."""

    tp: int = 1
    pp: int = 1
    dp: int = 1
    ep: int = 1

    @property
    def moe_tp(self) -> int:
        """Ranks that share the tensors of one expert."""
        return self.tp * self.dp // self.ep

    @property
    def shared_experts_whole(self) -> bool:
        """Whether every rank holds the shared experts uncut."""
        return self.ep > 1 and self.tp > 1 and self.dp > 1


def cut_features(features: int, ranks: int, block: int, *, pads_blocks: bool) -> int:
    """One rank's share of a dimension; whole blocks where the engine pads to them."""
    if pads_blocks and block > 1 and ranks > 1:
        return ceil(ceil(features / block) / ranks) * block
    return ceil(features / ranks)


def matrix_on_rank(matrix: Matrix, split: RankSplit, precision: Precision) -> Matrix:
    """The part of `matrix` that one rank holds."""
    ranks, copies = split.tp, matrix.copies
    if matrix.component is Component.ROUTED_EXPERTS:
        ranks, copies = split.moe_tp, ceil(copies / split.ep)
    elif matrix.component is Component.SHARED_EXPERTS and split.shared_experts_whole:
        ranks = 1
    rows, columns = matrix.out_features, matrix.in_features
    pads = precision.pads_blocks and matrix.component in precision.quantised
    block = precision.block_columns if pads else 1
    if matrix.split is Split.COLUMNS:
        rows = cut_features(rows, ranks, block, pads_blocks=pads)
    elif matrix.split is Split.ROWS:
        columns = cut_features(columns, ranks, block, pads_blocks=pads)
    elif matrix.split is Split.KV_HEADS:
        heads = rows // matrix.head_features
        rows = ceil(heads / ranks) * matrix.head_features
    elif matrix.split is Split.VOCABULARY:
        padded = ceil(rows / _VOCABULARY_PADDING) * _VOCABULARY_PADDING
        rows = ceil(padded / ranks)
    return replace(matrix, out_features=rows, in_features=columns, copies=copies)


def stage_weight_bytes(
    model: ModelSpec, split: RankSplit, layers: range, *, first: bool, last: bool
) -> dict[Component, float]:
    """Bytes by component on one rank of the stage that holds `layers`."""
    moe_layers = sum(model.layer_is_moe(layer) for layer in layers)
    counted: list[tuple[int, Matrix]] = []
    for count, is_moe in ((moe_layers, True), (len(layers) - moe_layers, False)):
        if count:
            counted += [(count, matrix) for matrix in layer_matrices(model, is_moe=is_moe)]
    if first or (last and model.tied_embeddings):
        counted.append((1, embedding_matrix(model)))
    if last:
        counted += [(1, matrix) for matrix in head_matrices(model)]
    totals: dict[Component, float] = {}
    for count, matrix in counted:
        part = matrix_on_rank(matrix, split, model.precision)
        here = totals.get(matrix.component, 0.0)
        totals[matrix.component] = here + count * part.bytes_at(model.precision)
    return totals
