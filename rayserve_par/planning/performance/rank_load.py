"""What one rank holds and must do per token, layer by layer, for one model, GPU and layout.

Computed once per layout; work.py turns it into the work of a pass of any size.

    dense_bytes            stored bytes of the matrices that every token uses
    dense_peak_seconds     operations of one token / peak = sum of 2 x out x in / peak(format)
    expert_bytes           stored bytes of ONE routed expert's share on this rank
    expert_peak_seconds    operations of one token in one expert's share / peak

    kernels                launches of one layer in a decode step: 2 norms, the mixer's and the
                           feed-forward part's, counted after the fusions that engines make

A layer's numbers are multiplied by how many layers are alike.
"""

from dataclasses import dataclass

from rayserve_par.hardware.gpu import Gpu
from rayserve_par.model.component import Component
from rayserve_par.model.layer import Layer
from rayserve_par.model.matrix import Matrix
from rayserve_par.model.mixers.mixer import Mixer
from rayserve_par.model.spec import ModelSpec
from rayserve_par.model.weight_format import WeightFormat
from rayserve_par.planning.layout import Layout
from rayserve_par.sizing.rank_weights import RankSplit, matrix_on_rank

_NORM_KERNELS = 2
_MIXER_KERNELS = {  # projections, rotary and cache write, the mixing itself, output
    "gqa": 5,
    "mla": 9,
    "mamba2": 6,
    "gated_delta_net": 9,
    "kimi_delta": 9,
}
_OTHER_MIXER_KERNELS = 10
_DENSE_MLP_KERNELS = 3
_MOE_KERNELS = 7  # router, top-k, sort, two grouped products, activation, sum
_SHARED_EXPERT_KERNELS = 3


@dataclass(frozen=True, slots=True)
class LayerLoad:
    """`count` alike layers; every number is of one of them."""

    count: int
    mixer: Mixer | None
    kernels: int
    dense_bytes: float
    dense_peak_seconds: float
    expert_bytes: float = 0.0
    expert_peak_seconds: float = 0.0
    experts_on_rank: float = 0.0
    expert_hit_share: float = 0.0  # k / E
    experts_emulated: bool = False


@dataclass(frozen=True, slots=True)
class RankLoad:
    """All layers of a model on one rank, passed one after the other, and the head."""

    layers: tuple[LayerLoad, ...]
    head_bytes: float
    head_peak_seconds: float
    hidden_size: int
    kv_bytes_per_value: float
    bf16_peak_flops: float
    layout: Layout
    num_layers: int
    num_moe_layers: int

    @property
    def attention_tp(self) -> int:
        """Ranks that share one request's attention."""
        return self.layout.tp


def _is_emulated(weights: WeightFormat, gpu: Gpu) -> bool:
    """Whether the GPU has no units for this format, so that kernels widen it to 16 bits first."""
    has_fp8, has_fp4 = gpu.fp8_flops is not None, gpu.fp4_flops is not None
    return weights.bits < 16 and not (has_fp4 if weights.bits < 8 else has_fp8)


def _peak_seconds(matrix: Matrix, gpu: Gpu) -> float:
    bits = 16.0 if _is_emulated(matrix.format, gpu) else matrix.format.compute_bits
    return 2 * matrix.parameters / gpu.peak_flops(bits)


def _kernels(layer: Layer) -> int:
    count = _NORM_KERNELS
    if layer.mixer:
        count += _MIXER_KERNELS.get(layer.mixer.kind, _OTHER_MIXER_KERNELS)
    if layer.moe:
        count += _MOE_KERNELS
        count += _SHARED_EXPERT_KERNELS if layer.moe.shared_intermediate_size else 0
    elif layer.ffn:
        count += _DENSE_MLP_KERNELS
    return count


def _layer_load(layer: Layer, count: int, split: RankSplit, gpu: Gpu) -> LayerLoad:
    dense_bytes = dense_peak = expert_bytes = expert_peak = 0.0
    emulated = False
    for matrix in layer.matrices:
        if matrix.is_vector:
            continue
        part = matrix_on_rank(matrix, split)
        if matrix.component is Component.ROUTED_EXPERTS:
            expert_bytes += part.weight_bytes / part.copies
            expert_peak += _peak_seconds(part, gpu) / part.copies
            emulated = emulated or _is_emulated(part.format, gpu)
        else:
            dense_bytes += part.weight_bytes
            dense_peak += _peak_seconds(part, gpu)
    moe = layer.moe
    return LayerLoad(
        kernels=_kernels(layer),
        count=count,
        mixer=layer.mixer,
        dense_bytes=dense_bytes,
        dense_peak_seconds=dense_peak,
        expert_bytes=expert_bytes,
        expert_peak_seconds=expert_peak,
        experts_on_rank=moe.num_experts / split.ep if moe else 0.0,
        expert_hit_share=moe.experts_per_token / moe.num_experts if moe else 0.0,
        experts_emulated=emulated,
    )


def rank_load(
    model: ModelSpec, gpu: Gpu, layout: Layout, kv_cache_bits: float | None = None
) -> RankLoad:
    """The load of a rank of `layout`. `kv_cache_bits` None: as the checkpoint says."""
    split = RankSplit(tp=layout.tp, pp=layout.pp, dp=layout.dp, ep=layout.ep)
    head = model.embedding if model.tied_embeddings else model.head[-1]
    on_rank = matrix_on_rank(head, split)
    return RankLoad(
        layers=tuple(_layer_load(layer, count, split, gpu) for layer, count in model.layer_counts),
        head_bytes=on_rank.weight_bytes,
        head_peak_seconds=_peak_seconds(on_rank, gpu),
        hidden_size=model.hidden_size,
        kv_bytes_per_value=(kv_cache_bits or model.kv_cache_bits) / 8,
        bf16_peak_flops=gpu.peak_flops(16),
        layout=layout,
        num_layers=model.num_layers,
        num_moe_layers=sum(count for layer, count in model.layer_counts if layer.moe),
    )
