"""Nemotron-H and Nemotron-3: layers of one part each, Mamba-2, attention, MLP or experts.

The order is `hybrid_override_pattern` (M, *, -, E) or `layers_block_type` in words. MLPs and
experts are not gated (squared ReLU: two matrices). With `moe_latent_size` the experts work on a
projection of the hidden vector. Attention has no positions and no norms of its own.
MTP layers follow `mtp_hybrid_override_pattern` or `mtp_layers_block_type`; the first projects
embedding and hidden state together, the last has a norm besides.
Source: vllm/model_executor/models/{nemotron_h,nemotron_h_mtp}.py and `NemotronHForCausalLMConfig`
in vllm/model_executor/models/config.py (float32 state unless `mamba_ssm_cache_dtype` says else).
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
from rayserve_par.model.families.fields import gqa, integer
from rayserve_par.model.ffn import DenseMlp, MoeMlp
from rayserve_par.model.matrix import Matrix, Split
from rayserve_par.model.mixers.mamba2 import Mamba2

_SYMBOLS = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}
_WORDS = {"full_attention": "attention", "sliding_attention": "attention"}
_STATE_BITS = {"float32": 32.0, "bfloat16": 16.0, "float16": 16.0}
_PART_NAME = "mixer"


def read(config: Config, name: str) -> Skeleton:
    """All layers of a Nemotron-H."""
    kinds = _kinds(config, name, "hybrid_override_pattern", "layers_block_type")
    layers: list[LayerShape] = []
    for kind in kinds:
        mlps_before = sum(isinstance(layer.ffn, DenseMlp) for layer in layers)
        layers.append(_layer(config, name, kind, mlps_before))
    return Skeleton(tuple(layers), _mtp(config, name), "backbone.layers")


def _kinds(config: Config, name: str, pattern_field: str, words_field: str) -> list[str]:
    pattern, words = config.get(pattern_field) or "", config.get(words_field) or ()
    if not pattern and not words:
        raise RefusedError(
            f"{name}: the config has no {pattern_field} or {words_field}. Check config.json."
        )
    kinds = [_WORDS.get(w, w) for w in words] if words else [_SYMBOLS.get(s, s) for s in pattern]
    unknown = sorted(set(kinds) - set(_SYMBOLS.values()))
    if unknown:
        raise RefusedError(f"{name}: unknown kinds of layers {unknown} in a Nemotron-H.")
    return kinds


def _layer(config: Config, name: str, kind: str, mlps_before: int = 0) -> LayerShape:
    norms = layer_norms(integer(config, name, "hidden_size"), 1)
    match kind:
        case "mamba":
            return LayerShape(_mamba(config, name), None, norms)
        case "attention":
            size = config.get("head_dim") or config.get("attention_head_dim")
            heads = {**config, "head_dim": size}
            window = config.get("sliding_window")
            attention = gqa(heads, name, window_tokens=window, name=_PART_NAME)
            return LayerShape(attention, None, norms)
        case "mlp":
            return LayerShape(None, _mlp(config, name, mlps_before), norms)
    return LayerShape(None, _experts(config, name), norms)


def _mamba(config: Config, name: str) -> Mamba2:
    dtype = config.get("mamba_ssm_cache_dtype") or "float32"
    if dtype not in _STATE_BITS:
        raise RefusedError(
            f"{name}: mamba_ssm_cache_dtype is {dtype!r}; known are {', '.join(_STATE_BITS)}."
        )
    return Mamba2(
        num_heads=integer(config, name, "mamba_num_heads"),
        head_dim=integer(config, name, "mamba_head_dim"),
        state_size=integer(config, name, "ssm_state_size"),
        num_groups=integer(config, name, "n_groups"),
        conv_kernel=integer(config, name, "conv_kernel"),
        conv_bias=bool(config.get("use_conv_bias", True)),
        state_bits=_STATE_BITS[dtype],
        name=_PART_NAME,
    )


def _mlp(config: Config, name: str, mlps_before: int) -> DenseMlp:
    sizes = config.get("intermediate_size")
    if isinstance(sizes, list):
        sizes = sizes[mlps_before if len(sizes) > 1 else 0]
    size = integer({"intermediate_size": sizes}, name, "intermediate_size")
    return DenseMlp(size, gated=False, bias=bool(config.get("mlp_bias")), name=_PART_NAME)


def _experts(config: Config, name: str) -> MoeMlp:
    shared = config.get("n_shared_experts") or 0
    if shared:
        shared *= integer(config, name, "moe_shared_expert_intermediate_size")
    return MoeMlp(
        num_experts=integer(config, name, "n_routed_experts"),
        experts_per_token=integer(config, name, "num_experts_per_tok"),
        expert_intermediate_size=integer(config, name, "moe_intermediate_size"),
        shared_intermediate_size=shared,
        latent_size=config.get("moe_latent_size"),
        gated=False,
        router_bias=True,
        name=_PART_NAME,
    )


def _mtp(config: Config, name: str) -> tuple[LayerShape, ...]:
    count = config.get("num_nextn_predict_layers") or 0
    if not count:
        return ()
    kinds = _kinds(config, name, "mtp_hybrid_override_pattern", "mtp_layers_block_type")
    layers = [_layer(config, name, kind) for kind in kinds]
    hidden = integer(config, name, "hidden_size")
    joined = Matrix("eh_proj", Component.ATTENTION, hidden, 2 * hidden, Split.COLUMNS)
    layers[0] = replace(layers[0], others=(*layers[0].others, *layer_norms(hidden), joined))
    layers[-1] = replace(layers[-1], others=(*layers[-1].others, *layer_norms(hidden, 1)))
    return tuple(layers) * count


READERS: dict[str, Reader] = {"nemotron_h": read}
