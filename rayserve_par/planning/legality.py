"""Why a layout cannot be, each reason with its arithmetic.

    heads           num_heads mod tp = 0
    KV heads        num_kv_heads mod tp = 0 or tp mod num_kv_heads = 0 (then heads are repeated)
    MLP             intermediate mod tp = 0; an expert's mod moe_tp = 0 unless the engine pads
    blocks          a cut dimension of block-quantised weights / ranks is a multiple of the block
    experts         num_experts mod ep = 0; ep is 1 or tp x dp (vLLM knows no other)
    stages          pp <= num_layers
    DP              only with experts to share: DP of a dense model is replicas
    TP              tp <= GPUs of a node and <= GPUs of an NVLink domain

The vocabulary is no reason: vLLM pads it. Nor is hidden_size: no weight is cut along it alone.
Source: the linear layers, `fp8_utils.validate_fp8_block_shape` and `FusedMoE` of vLLM.
"""

from collections.abc import Iterator

from rayserve_par.hardware.cluster import NodeGroup
from rayserve_par.model.precision import Component
from rayserve_par.model.spec import ModelSpec
from rayserve_par.model.weights import Split, layer_matrices
from rayserve_par.planning.layout import Layout
from rayserve_par.sizing.rank_weights import RankSplit


def split_of(layout: Layout) -> RankSplit:
    """The layout as sizing takes it."""
    return RankSplit(tp=layout.tp, pp=layout.pp, dp=layout.dp, ep=layout.ep)


def _indivisible(what: str, count: int, by: str, ranks: int) -> Iterator[str]:
    if count % ranks:
        yield (
            f"{count} {what} are not divisible by {by} {ranks}: {count} / {ranks} = "
            f"{count / ranks:.4g}"
        )


def _attention(model: ModelSpec, layout: Layout) -> Iterator[str]:
    tp = layout.tp
    yield from _indivisible("attention heads", model.num_attention_heads, "TP", tp)
    heads = model.num_kv_heads
    if model.attention.kind == "gqa" and heads % tp and tp % heads:
        yield (
            f"{heads} KV heads and TP {tp} do not divide each other: {heads} / {tp} = "
            f"{heads / tp:.4g}, {tp} / {heads} = {tp / heads:.4g}"
        )


def _expert_ranks(layout: Layout) -> str:
    return "TP" if layout.moe_tp == layout.tp else "MoE TP"


def _mlp(model: ModelSpec, layout: Layout) -> Iterator[str]:
    if model.intermediate_size and model.num_moe_layers < model.num_layers:
        what = "values of the MLP's intermediate size"
        yield from _indivisible(what, model.intermediate_size, "TP", layout.tp)
    moe = model.moe
    if moe is None:
        return
    if not model.precision.pads_blocks:
        what = "values of an expert's intermediate size"
        inner = moe.expert_intermediate_size
        yield from _indivisible(what, inner, _expert_ranks(layout), layout.moe_tp)
    if moe.shared_intermediate_size and not split_of(layout).shared_experts_whole:
        what = "values of the shared experts' intermediate size"
        yield from _indivisible(what, moe.shared_intermediate_size, "TP", layout.tp)


def _blocks(model: ModelSpec, layout: Layout) -> Iterator[str]:
    """Block-quantised matrices whose share is no whole number of blocks."""
    precision = model.precision
    if precision.pads_blocks or max(precision.block_rows, precision.block_columns) == 1:
        return
    split = split_of(layout)
    seen: set[tuple[Component, int, int]] = set()
    kinds = [kind for kind in (True, False) if _has_kind(model, is_moe=kind)]
    for matrix in (m for kind in kinds for m in layer_matrices(model, is_moe=kind)):
        part = matrix.component
        if part not in precision.quantised or matrix.in_features == 1:
            continue
        expert = part is Component.ROUTED_EXPERTS
        ranks = layout.moe_tp if expert else layout.tp
        if part is Component.SHARED_EXPERTS and split.shared_experts_whole:
            ranks = 1
        if ranks == 1 or matrix.split in (Split.WHOLE, Split.VOCABULARY):
            continue
        rows = matrix.split is not Split.ROWS
        features = matrix.out_features if rows else matrix.in_features
        block = precision.block_rows if rows else precision.block_columns
        if matrix.split is Split.KV_HEADS:
            ranks = min(ranks, features // matrix.head_features)
        key = (part, features, block)
        if features % ranks or (features // ranks) % block == 0 or key in seen:
            continue
        seen.add(key)
        name, share = _expert_ranks(layout) if expert else "TP", features // ranks
        yield (
            f"{part.value} ({matrix.name}): {features} / {name} {ranks} = {share} is not a "
            f"multiple of the {precision.name} block of {block}: {share} / {block} = "
            f"{share / block:.4g}"
        )


def _has_kind(model: ModelSpec, *, is_moe: bool) -> bool:
    count = model.num_moe_layers
    return count > 0 if is_moe else count < model.num_layers


def _experts(model: ModelSpec, layout: Layout) -> Iterator[str]:
    width = layout.tp * layout.dp
    if model.moe is None:
        if layout.ep > 1:
            yield f"EP {layout.ep} needs experts; {model.name} is dense"
        if layout.dp > 1:
            yield (
                f"DP {layout.dp} of a dense model shares nothing: ask for {layout.dp} instances "
                "instead"
            )
        return
    yield from _indivisible("experts", model.moe.num_experts, "EP", layout.ep)
    if layout.ep not in (1, width):
        yield (
            f"EP {layout.ep} is neither 1 nor TP x DP = {layout.tp} x {layout.dp} = {width}, the "
            "only two that vLLM has"
        )
    elif layout.dp > 1 and layout.ep == 1:
        yield (
            f"DP {layout.dp} without EP would cut every expert over {width} ranks in step: use EP "
            f"{width}, or ask for {layout.dp} instances"
        )


def _hardware(model: ModelSpec, layout: Layout, group: NodeGroup) -> Iterator[str]:
    if layout.pp > model.num_layers:
        yield (
            f"{model.num_layers} layers cannot make {layout.pp} PP stages: each needs at least one"
        )
    if layout.tp > group.gpus_per_node:
        joined = group.gpu.nvlink_domain_gpus
        across = (
            f"; its NVLink domain has {joined}, but a TP group over several nodes is not placed yet"
            if joined > group.gpus_per_node
            else ""
        )
        yield (
            f"TP {layout.tp} exceeds a node's {group.gpus_per_node} x {group.gpu.name}: "
            f"{layout.tp} > {group.gpus_per_node}{across}"
        )
    elif layout.tp > group.tp_limit:
        yield (
            f"TP {layout.tp} exceeds the NVLink domain of {group.gpu.name}: {layout.tp} > "
            f"{group.tp_limit} GPUs"
        )


def illegal(model: ModelSpec, layout: Layout, group: NodeGroup) -> tuple[str, ...]:
    """Every reason against `layout` for this model on these nodes; empty where it is legal.

    Memory is not looked at (sizing), nor the number of nodes (plan).
    """
    return (
        *_hardware(model, layout, group),
        *_experts(model, layout),
        *_attention(model, layout),
        *_mlp(model, layout),
        *_blocks(model, layout),
    )
