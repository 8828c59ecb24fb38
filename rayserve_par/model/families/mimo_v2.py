"""MiMo-V2: global and sliding-window attention of different heads, values shorter than keys.

`hybrid_layer_pattern` marks windowed layers (1), `moe_layer_freq` those with experts. Windowed
layers have a learned sink per head where `add_swa_attention_sink_bias` says so.
MTP layers are windowed with a dense MLP, two more norms and the projection of both inputs; vLLM
loads one, and the config does not count them: one is assumed.
Source: vllm/model_executor/models/{mimo_v2,mimo_v2_mtp}.py.
"""

from dataclasses import replace

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


def read(config: Config, name: str) -> Skeleton:
    """All layers of a MiMo-V2."""
    windowed = _flags(config, name, "hybrid_layer_pattern")
    with_experts = _flags(config, name, "moe_layer_freq")
    everywhere, local = _global(config, name), _local(config, name)
    experts, mlp = _experts(config, name), DenseMlp(integer(config, name, "intermediate_size"))
    norms = layer_norms(integer(config, name, "hidden_size"))
    layers = tuple(
        LayerShape(local if is_windowed else everywhere, experts if is_moe else mlp, norms)
        for is_windowed, is_moe in zip(windowed, with_experts, strict=True)
    )
    block = LayerShape(local, mlp, norms)
    return Skeleton(layers, (replace(mtp_layer(block, config, name), mixer=local),))


def _flags(config: Config, name: str, field: str) -> list[int]:
    flags, count = config.get(field), num_layers(config, name)
    if not isinstance(flags, list) or len(flags) != count:
        raise RefusedError(
            f"{name}: {field} is {flags!r}; it must have one entry for each of {count} layers."
        )
    return flags


def _global(config: Config, name: str) -> GqaAttention:
    biased = bool(config.get("attention_bias"))
    sinks = bool(config.get("add_full_attention_sink_bias"))
    return gqa(config, name, v_head_dim=config.get("v_head_dim"), qkv_bias=biased, sinks=sinks)


def _local(config: Config, name: str) -> GqaAttention:
    return replace(
        _global(config, name),
        num_heads=integer(config, name, "swa_num_attention_heads", "num_attention_heads"),
        num_kv_heads=integer(config, name, "swa_num_key_value_heads", "num_key_value_heads"),
        head_dim=integer(config, name, "swa_head_dim", "head_dim"),
        v_head_dim=integer(config, name, "swa_v_head_dim", "v_head_dim"),
        sinks=bool(config.get("add_swa_attention_sink_bias")),
        window_tokens=integer(config, name, "sliding_window_size", "sliding_window"),
    )


def _experts(config: Config, name: str) -> MoeMlp:
    size = integer(config, name, "moe_intermediate_size")
    return MoeMlp(
        num_experts=integer(config, name, "n_routed_experts"),
        experts_per_token=integer(config, name, "num_experts_per_tok"),
        expert_intermediate_size=size,
        shared_intermediate_size=size * (config.get("n_shared_experts") or 0),
        router_bias=True,
    )


READERS: dict[str, Reader] = {"mimo_v2": read, "mimo_v2_flash": read}
