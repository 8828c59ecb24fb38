"""MiniMax M3: block-sparse attention with an index, dense first layers, sigmoid-routed experts.

`sparse_attention_config.sparse_attention_freq` marks the sparse layers, `moe_layer_freq` those with
experts; `intermediate_size` is an expert's, `dense_intermediate_size` a dense layer's. Index heads
choose only (`sparse_disable_index_value`): they have no values and no output.
An MTP module is a layer of the last kind with the usual norms and projection.
Source: vllm/models/minimax_m3/nvidia/{model,mtp}.py, vllm/transformers_utils/configs/minimax_m3.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rayserve_par.errors import RefusedError
from rayserve_par.model.families.family import (
    Config,
    LayerShape,
    Reader,
    Skeleton,
    layer_norms,
)
from rayserve_par.model.families.fields import gqa, integer, num_layers
from rayserve_par.model.families.stack import mtp_layer
from rayserve_par.model.ffn import DenseMlp, MoeMlp
from rayserve_par.model.mixers.attention import GqaAttention
from rayserve_par.model.mixers.block_sparse import BlockSparseAttention
from rayserve_par.model.mixers.mixer import Mixer


@dataclass(frozen=True, slots=True)
class _Reader:
    layer_prefix: str

    def __call__(self, config: Config, name: str) -> Skeleton:
        sparse = config.get("sparse_attention_config") or {}
        dense_attention = gqa(config, name, qk_norm=bool(config.get("use_qk_norm", True)))
        sparse_layers = _flags(config, name, "sparse_attention_freq", sparse, default=0)
        moe_layers = _flags(config, name, "moe_layer_freq", config, default=1)
        experts, mlp = _experts(config, name), _mlp(config, name)
        norms = layer_norms(integer(config, name, "hidden_size"))
        chosen: Mixer = dense_attention
        if any(sparse_layers):
            chosen = _sparse(sparse, name, dense_attention)
        layers = tuple(
            LayerShape(chosen if is_sparse else dense_attention, experts if is_moe else mlp, norms)
            for is_sparse, is_moe in zip(sparse_layers, moe_layers, strict=True)
        )
        mtp = config.get("num_nextn_predict_layers") or config.get("num_mtp_modules") or 0
        mtp_layers = tuple(mtp_layer(layers[-1], config, name) for _ in range(mtp))
        return Skeleton(layers, mtp_layers, self.layer_prefix)


def _flags(config: Config, name: str, field: str, source: Config, *, default: int) -> Sequence[int]:
    count = num_layers(config, name)
    flags: Sequence[int] | None = source.get(field)
    if flags is None:
        return [default] * count
    if len(flags) != count:
        raise RefusedError(
            f"{name}: {field} has {len(flags)} entries for {count} layers. Check config.json."
        )
    return flags


def _sparse(config: Config, name: str, dense: GqaAttention) -> BlockSparseAttention:
    return BlockSparseAttention(
        dense=dense,
        index_heads=integer(config, name, "sparse_num_index_heads"),
        index_head_dim=integer(config, name, "sparse_index_dim"),
        block_size=integer(config, name, "sparse_block_size"),
        topk_blocks=integer(config, name, "sparse_topk_blocks"),
    )


def _experts(config: Config, name: str) -> MoeMlp:
    size = integer(config, name, "intermediate_size")
    return MoeMlp(
        num_experts=integer(config, name, "num_local_experts"),
        experts_per_token=integer(config, name, "num_experts_per_tok"),
        expert_intermediate_size=size,
        shared_intermediate_size=size * (config.get("n_shared_experts") or 0),
        router_bias=bool(config.get("use_routing_bias")),
        name="block_sparse_moe",
    )


def _mlp(config: Config, name: str) -> DenseMlp:
    return DenseMlp(integer(config, name, "dense_intermediate_size", "intermediate_size"))


READERS: dict[str, Reader] = {
    "minimax_m3": _Reader("model.layers"),
    "minimax_m3_text": _Reader("model.layers"),
    "minimax_m3_vl": _Reader("language_model.model.layers"),
}
