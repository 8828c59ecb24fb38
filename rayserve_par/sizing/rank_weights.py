"""Bytes of weights that one rank holds.

    COLUMNS, ROWS   the cut dimension / tp          (routed experts: / moe_tp)
    KV_HEADS        ceil(num_kv_heads / tp) heads: repeated when tp exceeds the heads
    VOCABULARY      ceil(ceil64(vocab) / tp) rows
    WHOLE           everything
    routed experts  ceil((num_experts + redundant) / ep) of them, each cut by
                    moe_tp = tp x dp / ep

Attention, dense and shared experts are the same on every DP rank. Shared experts are whole on
every rank where an engine runs MoE layers on sequence shards: ep > 1, tp > 1 and dp > 1
(`use_sequence_parallel_moe` in vllm/config/parallel.py). The embedding is on the first stage and
the head on the last; a tied head is a second copy of the embedding when pp > 1. A vision tower is
on every stage: vLLM builds it on all of them and uses the first's.

MLA's kv_b_proj stays as it is for prefill; decoding takes it as W_UK and W_UV at 16 bits, which
are views of it where it is not quantised and a copy where it is (`process_weights_after_loading`
in vllm/model_executor/layers/attention/mla_attention.py).

MXFP4 experts are padded for the kernel (`mxfp4_round_up_hidden_size_and_intermediate_size` in
vllm/model_executor/layers/fused_moe/oracle/mxfp4.py): the intermediate share to 64 (Hopper,
Triton) or 128, the hidden size to 256 elsewhere than on Hopper; Triton's layout for Hopper pads
the summed dimension of the values to 256, not the scales (inferred: with it gpt-oss-20b and -120b
come within 0.06 GiB of the 13.47 and 64.38 GiB that vLLM logs on H100).
Rotary tables, which engines count among the weights, are max_context x rotary width x 2 bytes for
every width, whole on every rank; partly rotated heads are counted as if they were rotated whole.
Left out: scales of activations.
"""

from collections import Counter
from dataclasses import dataclass, replace
from math import ceil

from rayserve_par.hardware.gpu import Gpu
from rayserve_par.model.component import Component
from rayserve_par.model.layer import Layer
from rayserve_par.model.matrix import Matrix, Split
from rayserve_par.model.mixers.attention import GqaAttention, MlaAttention
from rayserve_par.model.spec import ModelSpec

_VOCABULARY_PADDING = 64
_ABSORBED_BYTES = 2
_ROTARY_BYTES = 2


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


@dataclass(frozen=True, slots=True)
class ExpertPadding:
    """Multiples to which a kernel pads experts in block formats of 4 bits."""

    intermediate: int
    hidden: int
    summed: int = 1


_PADDING = {"9": ExpertPadding(64, 1, 256), "rocm": ExpertPadding(256, 256)}
_OTHER_PADDING = ExpertPadding(128, 256)


def expert_padding(gpu: Gpu) -> ExpertPadding:
    """What vLLM's choice of kernel on this GPU asks for."""
    key = "rocm" if gpu.engine_backend == "rocm" else gpu.compute_capability.split(".")[0]
    return _PADDING.get(key, _OTHER_PADDING)


def cut_features(features: int, ranks: int, block: int, *, pads_blocks: bool) -> int:
    """One rank's share of a dimension; whole blocks where the engine pads to them."""
    if pads_blocks and block > 1 and ranks > 1:
        return ceil(ceil(features / block) / ranks) * block
    return ceil(features / ranks)


def matrix_on_rank(
    matrix: Matrix,
    split: RankSplit,
    *,
    redundant_experts: int = 0,
    padding: ExpertPadding | None = None,
) -> Matrix:
    """The part of `matrix` that one rank holds; `padding` None: to whole blocks alone."""
    ranks, copies = split.tp, matrix.copies
    if matrix.component is Component.ROUTED_EXPERTS:
        ranks, copies = split.moe_tp, ceil((copies + redundant_experts) / split.ep)
    elif matrix.component is Component.SHARED_EXPERTS and split.shared_experts_whole:
        ranks = 1
    rows, columns = matrix.out_features, matrix.in_features
    pads = matrix.format.pads_blocks and not matrix.is_vector
    block = matrix.format.block_columns if pads else 1
    if matrix.split is Split.COLUMNS:
        rows = cut_features(rows, ranks, block, pads_blocks=pads)
    elif matrix.split is Split.ROWS:
        columns = cut_features(columns, ranks, block, pads_blocks=pads)
    elif matrix.split is Split.KV_HEADS:
        heads = rows // matrix.head_features
        rows = ceil(heads / ranks) * matrix.head_features
    elif matrix.split is Split.VOCABULARY:
        rows = ceil(_up(rows, _VOCABULARY_PADDING) / ranks)
    if padding and pads and matrix.component is Component.ROUTED_EXPERTS:
        if matrix.split is Split.COLUMNS:
            rows, columns = _up(rows, padding.intermediate), _up(columns, padding.hidden)
        else:
            rows, columns = _up(rows, padding.hidden), _up(columns, padding.intermediate)
    return replace(matrix, out_features=rows, in_features=columns, copies=copies)


def _up(number: int, multiple: int) -> int:
    return ceil(number / multiple) * multiple


@dataclass(frozen=True, slots=True)
class WeightCuts:
    """Everything that decides what a rank holds of one matrix."""

    split: RankSplit
    redundant_experts: int = 0
    padding: ExpertPadding | None = None

    def matrix_bytes(self, matrix: Matrix) -> float:
        """Bytes of a matrix on one rank, padding and decoding's copy of kv_b_proj included."""
        part = matrix_on_rank(
            matrix, self.split, redundant_experts=self.redundant_experts, padding=self.padding
        )
        size = part.weight_bytes
        if matrix.format.is_quantised and matrix.name.endswith("kv_b_proj"):
            size += part.parameters * _ABSORBED_BYTES
        routed = matrix.component is Component.ROUTED_EXPERTS
        if self.padding and routed and matrix.format.pads_blocks and not matrix.is_vector:
            added = _up(part.in_features, self.padding.summed) - part.in_features
            size += part.copies * part.out_features * added * part.format.bits / 8
        return size

    def by_component(self, matrices: tuple[Matrix, ...]) -> dict[Component, float]:
        """Bytes of matrices on one rank."""
        totals: dict[Component, float] = {}
        for matrix in matrices:
            totals[matrix.component] = totals.get(matrix.component, 0.0) + self.matrix_bytes(matrix)
        return totals


def rotary_table_bytes(model: ModelSpec) -> float:
    """Cosines and sines of every position, on every rank."""
    widths = {mixer.head_dim for mixer in model.mixers if isinstance(mixer, GqaAttention)}
    widths |= {m.qk_rope_head_dim for m in model.mixers if isinstance(m, MlaAttention)}
    return model.max_context_tokens * sum(widths) * _ROTARY_BYTES


def stages_weight_bytes(
    model: ModelSpec, cuts: WeightCuts, stages: tuple[range, ...], *, with_mtp: bool = False
) -> tuple[dict[Component, float], ...]:
    """Bytes by component on one rank of every stage; every different layer is cut once.

    `with_mtp` adds the multi-token-prediction layers to the last stage.
    """
    last = len(stages) - 1
    by_layer: dict[int, dict[Component, float]] = {}
    found = []
    for number, stage in enumerate(stages):
        held: tuple[Layer, ...] = model.layers[stage.start : stage.stop]
        if with_mtp and number == last:
            held += model.mtp_layers
        counts = Counter(map(id, held))
        totals: dict[Component, float] = {}
        for layer in {id(layer): layer for layer in held}.values():
            if id(layer) not in by_layer:
                by_layer[id(layer)] = cuts.by_component(layer.matrices)
            _add(totals, by_layer[id(layer)], counts[id(layer)])
        ends = list(model.vision)
        if number == 0 or (number == last and model.tied_embeddings):
            ends.append(model.embedding)
        if number == last:
            ends += model.head
        _add(totals, cuts.by_component(tuple(ends)), 1)
        found.append(totals)
    return tuple(found)


def _add(totals: dict[Component, float], more: dict[Component, float], times: int) -> None:
    for part, size in more.items():
        totals[part] = totals.get(part, 0.0) + times * size
