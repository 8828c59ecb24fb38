"""Kimi Linear and Kimi K3: Kimi delta attention with every fourth layer MLA, experts throughout.

K3 has besides: a full-rank output gate in both mixers, experts that work on a latent of
`routed_expert_hidden_size` values (normed before it is projected back), and attention residuals:
two norms and two projections to one value a layer, which choose among earlier layers' outputs.
Layers of `linear_attn_config` are counted from 1. No rotary part is applied, its values are stored.
Left out: the attention residual after the last layer (2 x hidden_size values).
Source: vllm/models/kimi_k3/nvidia/{model,kda,mla}.py,
vllm/transformers_utils/configs/kimi_linear.py.
"""

from dataclasses import dataclass

from rayserve_par.errors import RefusedError
from rayserve_par.model.component import Component
from rayserve_par.model.families.family import (
    Config,
    LayerShape,
    Reader,
    Skeleton,
    layer_norms,
)
from rayserve_par.model.families.fields import integer, num_layers
from rayserve_par.model.ffn import DenseMlp, Ffn, MoeMlp
from rayserve_par.model.matrix import Matrix, Split, vector
from rayserve_par.model.mixers.attention import MlaAttention
from rayserve_par.model.mixers.kimi_delta import KimiDelta

_MOE = "block_sparse_moe"


@dataclass(frozen=True, slots=True)
class _Reader:
    layer_prefix: str

    def __call__(self, config: Config, name: str) -> Skeleton:
        count = num_layers(config, name)
        linear = config.get("linear_attn_config")
        if not linear:
            raise RefusedError(f"{name}: the config has no linear_attn_config. Check config.json.")
        hidden = integer(config, name, "hidden_size")
        delta = KimiDelta(
            num_heads=integer(linear, name, "num_heads"),
            head_dim=integer(linear, name, "head_dim"),
            conv_kernel=integer(linear, name, "short_conv_kernel_size"),
            full_rank_gate=bool(linear.get("use_full_rank_gate")),
        )
        full = _mla(config, name)
        delta_layers = set(linear["kda_layers"])
        layers = []
        for number in range(count):
            ffn = _ffn(config, name, number)
            others = _others(config, hidden, ffn)
            if number + 1 in delta_layers:
                layers.append(LayerShape(delta, ffn, others))
            else:
                gate = _output_gate(config, full, hidden)
                layers.append(LayerShape(full, ffn, (*others, *gate)))
        return Skeleton(tuple(layers), layer_prefix=self.layer_prefix)


def _mla(config: Config, name: str) -> MlaAttention:
    return MlaAttention(
        num_heads=integer(config, name, "num_attention_heads"),
        q_lora_rank=config.get("q_lora_rank"),
        kv_lora_rank=integer(config, name, "kv_lora_rank"),
        qk_nope_head_dim=integer(config, name, "qk_nope_head_dim"),
        qk_rope_head_dim=integer(config, name, "qk_rope_head_dim"),
        v_head_dim=integer(config, name, "v_head_dim"),
    )


def _output_gate(config: Config, attention: MlaAttention, hidden: int) -> tuple[Matrix, ...]:
    if not config.get("mla_use_output_gate"):
        return ()
    rows = attention.num_heads * attention.v_head_dim
    return (Matrix("self_attn.g_proj", Component.ATTENTION, rows, hidden, Split.COLUMNS),)


def _ffn(config: Config, name: str, number: int) -> Ffn:
    first_dense = config.get("first_k_dense_replace") or 0
    if number < first_dense or number % (config.get("moe_layer_freq") or 1):
        return DenseMlp(integer(config, name, "intermediate_size"))
    size = integer(config, name, "moe_intermediate_size")
    return MoeMlp(
        num_experts=integer(config, name, "num_experts"),
        experts_per_token=integer(config, name, "num_experts_per_token"),
        expert_intermediate_size=size,
        shared_intermediate_size=size * (config.get("num_shared_experts") or 0),
        latent_size=config.get("routed_expert_hidden_size"),
        router_bias=True,
        name=_MOE,
    )


def _others(config: Config, hidden: int, ffn: Ffn) -> tuple[Matrix, ...]:
    found = list(layer_norms(hidden))
    if isinstance(ffn, MoeMlp) and ffn.latent_size and config.get("latent_moe_use_norm"):
        norm = f"{_MOE}.routed_expert_norm"
        found.append(vector(norm, Component.NORMS, ffn.latent_size, Split.WHOLE))
    if config.get("attn_res_block_size"):
        residual = Component.NORMS
        found.append(vector("attention_residuals", residual, hidden, Split.WHOLE, copies=4))
    return tuple(found)


READERS: dict[str, Reader] = {
    "kimi_linear": _Reader("model.layers"),
    "kimi_k3": _Reader("language_model.model.layers"),
}
