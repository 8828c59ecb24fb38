"""Llama 4: chunked local attention with every fourth layer global, experts in every n-th layer.

    local layers     rotary positions; a token attends to its own chunk of `attention_chunk_size`
                     tokens, so vLLM keeps at most one chunk: it is counted as a window
    global layers    no positions (`no_rope_layers` 0; without it, every fourth layer)
    expert layers    (number + 1) divisible by `interleave_moe_layer_step`, or `moe_layers`; experts
                     and the shared expert are `intermediate_size` wide, dense MLPs
                     `intermediate_size_mlp`

The norm of queries and keys has no weights.
Left out: a step reads from its chunk's start, so half of the window on average; the whole is an
upper bound.
Source: vllm/model_executor/models/llama4.py, transformers configuration_llama4.py,
`ChunkedLocalAttentionSpec` in vllm/v1/kv_cache_interface.py.
"""

from dataclasses import replace

from rayserve_par.model.families.family import (
    Config,
    LayerShape,
    Reader,
    Skeleton,
    layer_norms,
)
from rayserve_par.model.families.fields import gqa, integer, num_layers
from rayserve_par.model.ffn import DenseMlp, Ffn, MoeMlp

_GLOBAL_EVERY = 4


def read(config: Config, name: str) -> Skeleton:
    """All layers of a Llama 4."""
    count = num_layers(config, name)
    everywhere = gqa(config, name)
    local = replace(everywhere, window_tokens=config.get("attention_chunk_size"))
    rotary = config.get("no_rope_layers") or _default_rotary(config, count)
    experts, mlp = _experts(config, name), _mlp(config, name)
    with_experts = _moe_layers(config, count)
    norms = layer_norms(integer(config, name, "hidden_size"))
    layers = []
    for number in range(count):
        ffn: Ffn = experts if number in with_experts else mlp
        layers.append(LayerShape(local if rotary[number] else everywhere, ffn, norms))
    return Skeleton(tuple(layers), layer_prefix="language_model.model.layers")


def _default_rotary(config: Config, count: int) -> list[int]:
    every = config.get("no_rope_layer_interval") or _GLOBAL_EVERY
    return [int((number + 1) % every != 0) for number in range(count)]


def _moe_layers(config: Config, count: int) -> frozenset[int]:
    if config.get("moe_layers") is not None:
        return frozenset(config["moe_layers"])
    step = config.get("interleave_moe_layer_step", 1)
    return frozenset(n for n in range(count) if step and (n + 1) % step == 0)


def _experts(config: Config, name: str) -> MoeMlp:
    size = integer(config, name, "intermediate_size")
    return MoeMlp(
        num_experts=integer(config, name, "num_local_experts"),
        experts_per_token=integer(config, name, "num_experts_per_tok"),
        expert_intermediate_size=size,
        shared_intermediate_size=size,
        name="feed_forward",
        router_name="router",
        shared_name="shared_expert",
    )


def _mlp(config: Config, name: str) -> DenseMlp:
    size = integer(config, name, "intermediate_size_mlp", "intermediate_size")
    return DenseMlp(size, name="feed_forward")


READERS: dict[str, Reader] = {"llama4": read, "llama4_text": read}
