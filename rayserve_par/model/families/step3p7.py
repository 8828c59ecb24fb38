"""Step 3.5 and 3.7 Flash: sliding-window and global attention, gated per head, shared expert.

Field names are those of the published config (`moe_num_experts`, `num_attention_groups`, ...) or of
transformers' (`num_experts`, `num_key_value_heads`, ...). Expert layers are `moe_layers_enum`, or
all from `first_k_dense_replace` on (3 where the config does not say, as in transformers).
Assumed where the config does not say, as published for both models: windowed layers have 3/2 of
the global layers' query heads (96 for 64); every query head has a gate of one value.
MTP layers are windowed with a dense MLP, two more norms and the projection of both inputs.
Source: vllm/model_executor/models/{step3p5,step3p7,step3p5_mtp}.py, transformers
configuration_step3p7.py, https://huggingface.co/stepfun-ai/Step-3.5-Flash/blob/main/config.json.
"""

from dataclasses import replace

from rayserve_par.errors import RefusedError
from rayserve_par.model.component import Component
from rayserve_par.model.families.family import (
    Config,
    LayerShape,
    Reader,
    Skeleton,
    layer_norms,
)
from rayserve_par.model.families.fields import gqa, integer, layer_kinds, num_layers
from rayserve_par.model.families.stack import mtp_layer
from rayserve_par.model.ffn import DenseMlp, Ffn, MoeMlp
from rayserve_par.model.matrix import Matrix, Split
from rayserve_par.model.mixers.attention import GqaAttention

_DEFAULT_FIRST_DENSE = 3
_WINDOWED_HEADS = (3, 2)


def read(config: Config, name: str) -> Skeleton:
    """All layers of a Step Flash."""
    kinds = layer_kinds(config, name)
    if not kinds:
        raise RefusedError(f"{name}: the config has no layer_types. Check config.json.")
    everywhere, local = _global(config, name), _local(config, name)
    experts, mlp = _experts(config, name), DenseMlp(integer(config, name, "intermediate_size"))
    with_experts = _moe_layers(config, name)
    layers = []
    for number, kind in enumerate(kinds):
        ffn: Ffn = experts if number in with_experts else mlp
        attention = local if kind == "sliding_attention" else everywhere
        layers.append(_layer(config, name, attention, ffn))
    mtp = mtp_layer(_layer(config, name, local, mlp), config, name)
    mtp = replace(mtp, mixer=local)
    count = config.get("num_nextn_predict_layers") or 0
    return Skeleton(tuple(layers), (mtp,) * count)


def _layer(config: Config, name: str, attention: GqaAttention, ffn: Ffn) -> LayerShape:
    hidden = integer(config, name, "hidden_size")
    others = list(layer_norms(hidden))
    if config.get("use_head_wise_attn_gate", True):
        part, heads = Component.ATTENTION, attention.num_heads
        others.append(Matrix("self_attn.g_proj", part, heads, hidden, Split.COLUMNS))
    return LayerShape(attention, ffn, tuple(others))


def _global(config: Config, name: str) -> GqaAttention:
    kv_heads = integer(config, name, "num_attention_groups", "num_key_value_heads")
    biased = bool(config.get("attention_bias"))
    heads = {**config, "num_key_value_heads": kv_heads}
    return gqa(heads, name, qkv_bias=biased, qk_norm=True)


def _local(config: Config, name: str) -> GqaAttention:
    usual, other = _global(config, name), config.get("attention_other_setting")
    window = integer(config, name, "sliding_window")
    if isinstance(other, dict):
        return replace(
            usual,
            num_heads=integer(other, name, "num_attention_heads"),
            num_kv_heads=integer(other, name, "num_attention_groups"),
            head_dim=other.get("head_dim") or usual.head_dim,
            window_tokens=window,
        )
    heads = config.get("num_sliding_attention_heads")
    more, of = _WINDOWED_HEADS
    return replace(usual, num_heads=heads or usual.num_heads * more // of, window_tokens=window)


def _moe_layers(config: Config, name: str) -> frozenset[int]:
    count, listed = num_layers(config, name), config.get("moe_layers_enum")
    if listed is None:
        first = config.get("first_k_dense_replace")
        return frozenset(range(_DEFAULT_FIRST_DENSE if first is None else first, count))
    numbers = listed.split(",") if isinstance(listed, str) else listed
    return frozenset(int(number) for number in numbers)


def _experts(config: Config, name: str) -> MoeMlp:
    return MoeMlp(
        num_experts=integer(config, name, "moe_num_experts", "n_routed_experts", "num_experts"),
        experts_per_token=integer(config, name, "moe_top_k", "num_experts_per_tok"),
        expert_intermediate_size=integer(config, name, "moe_intermediate_size"),
        shared_intermediate_size=integer(config, name, "share_expert_dim", "share_expert_dims"),
        router_bias=bool(config.get("use_moe_router_bias", True)),
        name="moe",
        shared_name="share_expert",
    )


READERS: dict[str, Reader] = {"step3p5": read, "step3p7": read}
