"""Why a layout cannot be, each reason with its arithmetic.

    TP              tp <= GPUs of an NVLink domain; over several nodes of one, whole nodes
    heads           heads mod tp = 0: of queries; of linear attention's keys and values; of Mamba
    KV heads        heads mod tp = 0 or tp mod heads = 0 (then heads are repeated)
    Mamba groups    groups mod tp = 0, or one group (then repeated)
    output groups   groups mod tp = 0 (DeepSeek-V4's grouped output projection)
    vocabulary      padded to a multiple of 64, mod tp = 0
    MLP             intermediate mod tp = 0; an expert's mod moe_tp = 0
    blocks          a cut dimension of block- or group-quantised weights / ranks is a whole number
                    of blocks, unless the engine pads the format (MXFP4)
    other weights   whatever else TP cuts (weight_cuts.py) divides by tp
    experts         num_experts mod ep = 0; vLLM's ep is 1 or tp x dp, other engines' any divisor
    stages          pp <= num_layers
    DP              only with experts to share: DP of a dense model is replicas

Rules differ by engine only where "vLLM" is named: TensorRT-LLM and SGLang mix EP with a tensor
split of the experts, and DP attention with experts cut over all ranks.
No reasons: hidden_size (no weight is cut along it alone); a vision tower, which vLLM runs whole on
every rank where tp does not divide its heads (`is_vit_use_data_parallel`, `mm_encoder_tp_mode`);
PP with EP (each stage has an EP group of its own). Left out: redundant experts; that vLLM 0.32
refines or pads FP8 blocks of experts in some kernels, which no earlier release does.
Source: vllm/model_executor/layers: `linear.py`, `vocab_parallel_embedding.py`,
`fused_moe/config.py`, `mamba/`, `quantization/utils/fp8_utils.py` (`validate_fp8_block_shape`);
vllm/models/deepseek_v4/attention.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from rayserve_par.hardware.cluster import NodeGroup
from rayserve_par.model.ffn import MoeMlp
from rayserve_par.model.mixers.compressed_attention import CompressedAttention
from rayserve_par.model.mixers.gated_delta_net import GatedDeltaNet
from rayserve_par.model.mixers.mamba2 import Mamba2
from rayserve_par.model.spec import ModelSpec
from rayserve_par.planning.layout import Layout
from rayserve_par.planning.spread import tp_not_whole_nodes, tp_too_wide
from rayserve_par.planning.weight_cuts import Cut, cuts_of, quotient
from rayserve_par.sizing.rank_weights import RankSplit

_VOCABULARY_PADDING = 64


@dataclass(frozen=True, slots=True)
class RefusedLayout:
    """A candidate that was not taken, and every reason."""

    layout: Layout
    reasons: tuple[str, ...]


def split_of(layout: Layout) -> RankSplit:
    """The layout as sizing takes it."""
    return RankSplit(tp=layout.tp, pp=layout.pp, dp=layout.dp, ep=layout.ep)


@dataclass(frozen=True, slots=True)
class Divided:
    """`count` of something that TP divides; it may also be repeated where `repeats`."""

    what: str
    count: int
    repeats: bool = False

    def against(self, tp: int) -> Iterator[str]:
        """The reason, where TP neither divides nor repeats it."""
        if not self.repeats:
            yield from _indivisible(self.what, self.count, "TP", tp)
        elif self.count % tp and tp % self.count:
            yield (
                f"{self.count} {self.what} and TP {tp} do not divide each other: {self.count} / "
                f"{tp} = {quotient(self.count, tp)}, {tp} / {self.count} = "
                f"{quotient(tp, self.count)}"
            )


def _indivisible(what: str, count: int, by: str, ranks: int) -> Iterator[str]:
    if count % ranks:
        yield (
            f"{count} {what} are not divisible by {by} {ranks}: {count} / {ranks} = "
            f"{quotient(count, ranks)}"
        )


@dataclass(frozen=True, slots=True)
class Rules:
    """What of one model parallelism divides, collected once; `against` judges a layout by it."""

    name: str
    num_layers: int
    divided: tuple[Divided, ...]
    vocabulary: int
    dense_sizes: tuple[int, ...]
    experts: tuple[MoeMlp, ...]
    cuts: tuple[Cut, ...]

    def against_tp(self, tp: int) -> tuple[str, ...]:
        """Every reason that follows from the width of a TP group alone."""
        if tp == 1:
            return ()
        return (
            *(reason for one in self.divided for reason in one.against(tp)),
            *self._vocabulary(tp),
            *self._dense(tp),
        )

    def against(self, layout: Layout, group: NodeGroup, *, engine: str) -> tuple[str, ...]:
        """Every reason against `layout` on the nodes of `group`."""
        named = (
            *hardware_reasons(layout, group),
            *self._stages(layout),
            *self._experts(layout, engine),
            *self.against_tp(layout.tp),
            *self._expert_sizes(layout),
            *(reason for cut in self.cuts for reason in cut.against_blocks(layout)),
        )
        if named:
            return named
        return tuple(reason for cut in self.cuts for reason in cut.against_division(layout))

    def _vocabulary(self, tp: int) -> Iterator[str]:
        padded = ceil(self.vocabulary / _VOCABULARY_PADDING) * _VOCABULARY_PADDING
        if padded % tp:
            yield (
                f"a vocabulary of {self.vocabulary}, padded to {padded}, is not divisible by TP "
                f"{tp}: {padded} / {tp} = {quotient(padded, tp)}"
            )

    def _dense(self, tp: int) -> Iterator[str]:
        for size in self.dense_sizes:
            yield from _indivisible("values of the MLP's intermediate size", size, "TP", tp)

    def _expert_sizes(self, layout: Layout) -> Iterator[str]:
        ranks, name = layout.moe_tp, layout.expert_ranks_name
        for size in sorted({moe.expert_intermediate_size for moe in self.experts}):
            yield from _indivisible("values of an expert's intermediate size", size, name, ranks)
        if split_of(layout).shared_experts_whole:
            return
        for size in sorted({moe.shared_intermediate_size for moe in self.experts}):
            what = "values of the shared experts' intermediate size"
            yield from _indivisible(what, size, "TP", layout.tp)

    def _stages(self, layout: Layout) -> Iterator[str]:
        if layout.pp > self.num_layers:
            yield (
                f"{self.num_layers} layers cannot make {layout.pp} PP stages: each needs at least "
                "one"
            )

    def _experts(self, layout: Layout, engine: str) -> Iterator[str]:
        width = layout.tp * layout.dp
        if not self.experts:
            if layout.ep > 1:
                yield f"EP {layout.ep} needs experts; {self.name} is dense"
            if layout.dp > 1:
                yield (
                    f"DP {layout.dp} of a dense model shares nothing: ask for {layout.dp} "
                    "instances instead"
                )
            return
        for count in sorted({moe.num_experts for moe in self.experts}):
            yield from _indivisible("experts", count, "EP", layout.ep)
        if engine != "vllm":
            return
        if layout.ep not in (1, width):
            yield (
                f"EP {layout.ep} is neither 1 nor TP x DP = {layout.tp} x {layout.dp} = {width}, "
                "the only two that vLLM has"
            )
        elif layout.dp > 1 and layout.ep == 1:
            yield (
                f"DP {layout.dp} without EP would cut every expert over {width} ranks in step: use "
                f"EP {width}, or ask for {layout.dp} instances"
            )


def hardware_reasons(layout: Layout, group: NodeGroup) -> tuple[str, ...]:
    """A TP group inside a node, or over whole nodes of one NVLink domain."""
    if layout.tp > group.tp_limit:
        return (tp_too_wide(layout, group),)
    if layout.tp > group.gpus_per_node and layout.tp % group.gpus_per_node:
        return (tp_not_whole_nodes(layout, group),)
    return ()


def _divided(model: ModelSpec) -> Iterator[Divided]:
    for mixer in model.mixers:
        match mixer:
            case GatedDeltaNet():
                yield Divided("value heads of linear attention", mixer.num_value_heads)
                yield Divided("key heads of linear attention", mixer.num_key_heads)
            case Mamba2():
                yield Divided("Mamba heads", mixer.num_heads)
                yield Divided("Mamba groups", mixer.num_groups, repeats=mixer.num_groups == 1)
            case CompressedAttention():
                yield Divided("attention heads", mixer.num_heads)
                yield Divided("output groups of attention", mixer.output_groups)
            case _:
                what = "attention heads" if mixer.num_kv_heads else "heads of linear attention"
                yield Divided(what, mixer.num_heads)
        if mixer.num_kv_heads > 1:
            yield Divided("KV heads", mixer.num_kv_heads, repeats=True)


def rules_of(model: ModelSpec) -> Rules:
    """Collect what parallelism divides; layouts of one model share it."""
    experts = tuple(dict.fromkeys(layer.moe for layer, _ in model.layer_counts if layer.moe))
    beside = {moe.dense_intermediate_size for moe in experts}
    dense = {mlp.intermediate_size for mlp in model.dense_mlps} | beside
    return Rules(
        name=model.name,
        num_layers=model.num_layers,
        divided=tuple(dict.fromkeys(_divided(model))),
        vocabulary=model.vocab_size,
        dense_sizes=tuple(sorted(dense - {0})),
        experts=experts,
        cuts=cuts_of(model),
    )


def illegal(
    model: ModelSpec, layout: Layout, group: NodeGroup, *, engine: str = "vllm"
) -> tuple[str, ...]:
    """Every reason against `layout` for this model on these nodes; empty where it is legal.

    Memory is not looked at (sizing), nor the number of nodes (plan). To judge many layouts of one
    model, take `rules_of` once.
    """
    return rules_of(model).against(layout, group, engine=engine)
