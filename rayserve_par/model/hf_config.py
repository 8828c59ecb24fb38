"""From a Hugging Face `config.json` to a `ModelSpec`. Here only are its field names read.

A field that is missing takes the default of the model's own config class in transformers where
the checkpoints rely on it (head_dim = hidden_size / heads, KV heads = heads); any other missing
field is refused. Weights in float32 are counted at 16 bits, as vLLM's dtype "auto" loads them,
unless dtype="float32" is asked for.
Left out: vision towers and multi-token-prediction layers.
"""

from collections.abc import Callable, Mapping
from typing import Any

from rayserve_par.errors import RefusedError
from rayserve_par.model.attention import Attention, GqaAttention, MlaAttention
from rayserve_par.model.hf_quantization import precision_from_config
from rayserve_par.model.precision import BF16, Component, Precision
from rayserve_par.model.spec import ModelSpec, MoeSpec

Config = Mapping[str, Any]


def _integer(config: Config, name: str, *fields: str) -> int:
    """The first of `fields` that the config has, as a whole number."""
    for field in fields:
        value = config.get(field)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int):
            raise RefusedError(f"{name}: {field} is {value!r}; it must be a whole number.")
        return value
    raise RefusedError(f"{name}: the config has no {' or '.join(fields)}. Check config.json.")


def _gqa(
    config: Config,
    name: str,
    *,
    qkv_bias: bool = False,
    output_bias: bool = False,
    qk_norm: bool = False,
    sinks: bool = False,
) -> GqaAttention:
    heads = _integer(config, name, "num_attention_heads")
    hidden = _integer(config, name, "hidden_size")
    if config.get("head_dim") is None and hidden % heads:
        raise RefusedError(
            f"{name}: hidden_size {hidden} is not divisible by {heads} attention heads and the "
            "config has no head_dim. Check config.json."
        )
    return GqaAttention(
        num_heads=heads,
        num_kv_heads=config.get("num_key_value_heads") or heads,
        head_dim=config.get("head_dim") or hidden // heads,
        qkv_bias=qkv_bias,
        output_bias=output_bias,
        qk_norm=qk_norm,
        sinks=sinks,
    )


def _biased(config: Config) -> bool:
    return bool(config.get("attention_bias"))


def _llama_attention(config: Config, name: str) -> Attention:
    return _gqa(config, name, qkv_bias=_biased(config), output_bias=_biased(config))


def _qwen2_attention(config: Config, name: str) -> Attention:
    return _gqa(config, name, qkv_bias=True)


def _qwen3_attention(config: Config, name: str) -> Attention:
    bias = _biased(config)
    return _gqa(config, name, qk_norm=True, qkv_bias=bias, output_bias=bias)


def _gpt_oss_attention(config: Config, name: str) -> Attention:
    return _gqa(config, name, qkv_bias=True, output_bias=True, sinks=True)


def _deepseek_attention(config: Config, name: str) -> Attention:
    return MlaAttention(
        num_heads=_integer(config, name, "num_attention_heads"),
        q_lora_rank=config.get("q_lora_rank"),
        kv_lora_rank=_integer(config, name, "kv_lora_rank"),
        qk_nope_head_dim=_integer(config, name, "qk_nope_head_dim"),
        qk_rope_head_dim=_integer(config, name, "qk_rope_head_dim"),
        v_head_dim=_integer(config, name, "v_head_dim"),
    )


def _no_experts(_config: Config, _name: str) -> MoeSpec | None:
    return None


def _mixtral_experts(config: Config, name: str) -> MoeSpec:
    return MoeSpec(
        num_experts=_integer(config, name, "num_local_experts"),
        experts_per_token=_integer(config, name, "num_experts_per_tok"),
        expert_intermediate_size=_integer(config, name, "intermediate_size"),
    )


def _gpt_oss_experts(config: Config, name: str) -> MoeSpec:
    return MoeSpec(
        num_experts=_integer(config, name, "num_local_experts"),
        experts_per_token=_integer(config, name, "num_experts_per_tok", "experts_per_token"),
        expert_intermediate_size=_integer(config, name, "intermediate_size"),
        router_bias=True,
        expert_bias=True,
    )


def _qwen_experts(config: Config, name: str) -> MoeSpec:
    # transformers 5 saves what 4 called num_experts as num_local_experts.
    layers = _integer(config, name, "num_hidden_layers")
    step = config.get("decoder_sparse_step") or 1
    dense = set(config.get("mlp_only_layers") or ())
    dense |= {layer for layer in range(layers) if (layer + 1) % step}
    return MoeSpec(
        num_experts=_integer(config, name, "num_experts", "num_local_experts"),
        experts_per_token=_integer(config, name, "num_experts_per_tok"),
        expert_intermediate_size=_integer(config, name, "moe_intermediate_size"),
        dense_layers=tuple(sorted(dense)),
    )


def _deepseek_experts(config: Config, name: str) -> MoeSpec | None:
    if config.get("n_routed_experts", config.get("num_local_experts")) is None:
        return None
    layers = _integer(config, name, "num_hidden_layers")
    first = config.get("first_k_dense_replace") or 0
    step = config.get("moe_layer_freq") or 1
    dense = (layer for layer in range(layers) if layer < first or layer % step)
    shared = config.get("n_shared_experts") or 0
    inner = _integer(config, name, "moe_intermediate_size")
    return MoeSpec(
        num_experts=_integer(config, name, "n_routed_experts", "num_local_experts"),
        experts_per_token=_integer(config, name, "num_experts_per_tok"),
        expert_intermediate_size=inner,
        num_shared_experts=shared,
        shared_intermediate_size=shared * inner,
        dense_layers=tuple(dense),
        # DeepSeek-V3 routes with a learned correction per expert.
        router_bias=config.get("topk_method") == "noaux_tc",
    )


_Reader = tuple[Callable[[Config, str], Attention], Callable[[Config, str], MoeSpec | None]]
_READERS: dict[str, _Reader] = {
    "llama": (_llama_attention, _no_experts),
    "mistral": (_llama_attention, _no_experts),
    "qwen2": (_qwen2_attention, _no_experts),
    "qwen3": (_qwen3_attention, _no_experts),
    "qwen3_moe": (_qwen3_attention, _qwen_experts),
    "mixtral": (_llama_attention, _mixtral_experts),
    "deepseek_v2": (_deepseek_attention, _deepseek_experts),
    "deepseek_v3": (_deepseek_attention, _deepseek_experts),
    "kimi_k2": (_deepseek_attention, _deepseek_experts),
    "gpt_oss": (_gpt_oss_attention, _gpt_oss_experts),
}


def known_model_types() -> tuple[str, ...]:
    """The `model_type` values that can be read."""
    return tuple(sorted(_READERS))


def _text_config(config: Config, name: str) -> Config:
    """The language model's own config: the whole, or `text_config` with the outer quantisation."""
    inner = config.get("text_config")
    if config.get("model_type") in _READERS or not isinstance(inner, Mapping):
        return config
    if inner.get("model_type") in _READERS and config.get("vision_config"):
        raise RefusedError(
            f"{name}: {config.get('model_type')!r} has a vision tower, whose weights are not "
            "counted yet. Use the text model's own config."
        )
    outer = {
        key: config[key]
        for key in ("quantization_config", "architectures", "torch_dtype", "dtype")
        if key in config
    }
    return {**outer, **inner}


def _sliding(config: Config, layers: int) -> tuple[int | None, tuple[int, ...]]:
    window = config.get("sliding_window")
    if not window or config.get("use_sliding_window") is False:
        return None, ()
    kinds = config.get("layer_types")
    if kinds is None:
        return window, tuple(range(layers))
    return window, tuple(i for i, kind in enumerate(kinds) if kind == "sliding_attention")


def _component_layers(
    layers: int, dense: tuple[int, ...], moe: MoeSpec | None
) -> dict[Component, int]:
    """A middle layer for every linear component that the model has."""
    sparse = [layer for layer in range(layers) if moe is not None and layer not in dense]
    plain = [layer for layer in range(layers) if layer not in set(sparse)]
    found = {Component.ATTENTION: layers // 2}
    if plain:
        found[Component.DENSE_MLP] = plain[len(plain) // 2]
    if moe is not None and sparse:
        found[Component.ROUTED_EXPERTS] = sparse[len(sparse) // 2]
        if moe.shared_intermediate_size:
            found[Component.SHARED_EXPERTS] = sparse[len(sparse) // 2]
    return found


def _base(config: Config, dtype: str | None) -> Precision:
    """Storage of what is not quantised."""
    if dtype in ("float32", "float"):
        return Precision("fp32", 32.0, base_bits=32.0)
    half = str(dtype or config.get("torch_dtype") or config.get("dtype"))
    return Precision("fp16", 16.0) if half.removeprefix("torch.") in ("float16", "half") else BF16


def model_spec_from_config(config: Config, name: str, *, dtype: str | None = None) -> ModelSpec:
    """Read a config. `dtype` "float32" counts weights that are not quantised at 32 bits.

    Raises RefusedError for a model type, a quantisation or a field that is not understood.
    """
    text = _text_config(config, name)
    model_type = text.get("model_type")
    if model_type not in _READERS:
        raise RefusedError(
            f"{name}: model type {model_type!r} is not known. "
            f"Known: {', '.join(known_model_types())}."
        )
    read_attention, read_experts = _READERS[model_type]
    layers = _integer(text, name, "num_hidden_layers")
    moe = read_experts(text, name)
    if moe is not None and len(moe.dense_layers) == layers:
        moe = None
    dense = moe.dense_layers if moe is not None else tuple(range(layers))
    precision = precision_from_config(
        text.get("quantization_config"),
        name=name,
        base=_base(text, dtype),
        layers=_component_layers(layers, dense, moe),
    )
    window, sliding = _sliding(text, layers)
    architectures = text.get("architectures") or (model_type,)
    return ModelSpec(
        name=name,
        model_type=model_type,
        architecture=str(architectures[0]),
        num_layers=layers,
        hidden_size=_integer(text, name, "hidden_size"),
        vocab_size=_integer(text, name, "vocab_size"),
        intermediate_size=_integer(text, name, "intermediate_size") if dense else 0,
        attention=read_attention(text, name),
        max_context_tokens=_integer(text, name, "max_position_embeddings"),
        tied_embeddings=bool(text.get("tie_word_embeddings", False)),
        moe=moe,
        sliding_window_tokens=window,
        sliding_layers=sliding,
        precision=precision,
    )
