"""Gemma 4: local and global attention of different heads, experts beside the dense MLP.

    local layers     head_dim, num_key_value_heads, window
    global layers    global_head_dim, num_global_key_value_heads; where keys serve as values
                     (`attention_k_eq_v`) the checkpoint has no v_proj, yet both are cached
    small models     the last `num_kv_shared_layers` read the KV of earlier layers, with MLPs twice
                     as wide (`use_double_wide_mlp`); every layer has its own embedding of
                     `hidden_size_per_layer_input` values, counted with the layer

Left out: vLLM keeps the keys' weights a second time as the values' (0.1% to 0.4% of the weights).
Source: vllm/model_executor/models/gemma4.py; transformers configuration_gemma4.py.
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
from rayserve_par.model.ffn import DenseMlp, Ffn, MoeMlp
from rayserve_par.model.matrix import Matrix, Split, vector
from rayserve_par.model.mixers.attention import GqaAttention
from rayserve_par.model.mixers.mixer import Mixer
from rayserve_par.model.mixers.shared_kv import SharedKvAttention

_DEFAULT_GLOBAL_HEAD_DIM = 512


def read(config: Config, name: str) -> Skeleton:
    """All layers of a Gemma 4."""
    kinds = layer_kinds(config, name)
    if not kinds:
        raise RefusedError(f"{name}: the config has no layer_types. Check config.json.")
    first_shared = num_layers(config, name) - (config.get("num_kv_shared_layers") or 0)
    layers = []
    for number, kind in enumerate(kinds):
        is_shared = number >= first_shared
        own = _attention(config, name, kind)
        mixer: Mixer = SharedKvAttention(own) if is_shared else own
        ffn = _ffn(config, name, is_wide=is_shared and bool(config.get("use_double_wide_mlp")))
        layers.append(LayerShape(mixer, ffn, _others(config, name, ffn)))
    return Skeleton(tuple(layers), layer_prefix="model.language_model.layers")


def _attention(config: Config, name: str, kind: str) -> GqaAttention:
    biased = bool(config.get("attention_bias"))
    local = gqa(config, name, qkv_bias=biased, output_bias=biased, qk_norm=True)
    if kind == "sliding_attention":
        return replace(local, window_tokens=integer(config, name, "sliding_window"))
    keys_are_values = bool(config.get("attention_k_eq_v"))
    kv_heads = config.get("num_global_key_value_heads") if keys_are_values else None
    return replace(
        local,
        head_dim=config.get("global_head_dim") or _DEFAULT_GLOBAL_HEAD_DIM,
        num_kv_heads=kv_heads or local.num_kv_heads,
        keys_are_values=keys_are_values,
    )


def _ffn(config: Config, name: str, *, is_wide: bool) -> Ffn:
    dense = integer(config, name, "intermediate_size") * (2 if is_wide else 1)
    if not config.get("num_experts"):
        return DenseMlp(dense)
    return MoeMlp(
        num_experts=integer(config, name, "num_experts"),
        experts_per_token=integer(config, name, "top_k_experts"),
        expert_intermediate_size=integer(
            config, name, "moe_intermediate_size", "expert_intermediate_size"
        ),
        dense_intermediate_size=dense,
        name="moe",
    )


def _others(config: Config, name: str, ffn: Ffn) -> tuple[Matrix, ...]:
    hidden = integer(config, name, "hidden_size")
    found = [*layer_norms(hidden, 4), vector("layer_scalar", Component.NORMS, 1, Split.WHOLE)]
    if isinstance(ffn, MoeMlp):
        found += layer_norms(hidden, 3)
        found.append(vector("router.scale", Component.ROUTER, hidden, Split.WHOLE))
        per_expert = "router.per_expert_scale"
        found.append(vector(per_expert, Component.ROUTER, ffn.num_experts, Split.WHOLE))
    width = config.get("hidden_size_per_layer_input") or 0
    if width:
        rows = integer(config, name, "vocab_size_per_layer_input", "vocab_size")
        part, mlp = Component.EMBEDDING, Component.DENSE_MLP
        found += [
            Matrix("embed_tokens_per_layer", part, rows, width, Split.VOCABULARY),
            Matrix("per_layer_model_projection", mlp, width, hidden, Split.COLUMNS),
            Matrix("per_layer_input_gate", mlp, width, hidden, Split.WHOLE),
            Matrix("per_layer_projection", mlp, hidden, width, Split.WHOLE),
            *layer_norms(hidden, 1),
        ]
    return tuple(found)


READERS: dict[str, Reader] = {"gemma4": read, "gemma4_text": read}
