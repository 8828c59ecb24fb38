"""Nemotron of neural architecture search (DeciLM): every block with its own attention and MLP.

    KV heads of a block           = attention heads / n_heads_in_group
    intermediate size of a block  = 2/3 ffn_mult x hidden_size, rounded down to a whole number, then
                                    up to a multiple of 256

Either part may be absent (`no_op`), with its norm.
Left out, and refused: parts replaced by a linear layer (vLLM does not run them).
Source: vllm/model_executor/models/nemotron_nas.py.
"""

from math import ceil

from rayserve_par.errors import RefusedError
from rayserve_par.model.families.family import (
    Config,
    LayerShape,
    Reader,
    Skeleton,
    layer_norms,
)
from rayserve_par.model.families.fields import gqa, integer, num_layers
from rayserve_par.model.ffn import DenseMlp
from rayserve_par.model.mixers.attention import GqaAttention

_SIZE_MULTIPLE = 256


def read(config: Config, name: str) -> Skeleton:
    """All blocks of a DeciLM."""
    blocks = config.get("block_configs") or ()
    count = num_layers(config, name)
    if len(blocks) != count:
        raise RefusedError(
            f"{name}: block_configs has {len(blocks)} entries for {count} layers. Check "
            "config.json."
        )
    return Skeleton(tuple(_layer(config, block, name) for block in blocks))


def _layer(config: Config, block: Config, name: str) -> LayerShape:
    for part in ("attention", "ffn"):
        if block[part].get("replace_with_linear"):
            raise RefusedError(f"{name}: a block's {part} is replaced by a linear layer.")
    attention, mlp = _attention(config, block["attention"], name), _mlp(config, block["ffn"], name)
    parts = (attention is not None) + (mlp is not None)
    norms = layer_norms(integer(config, name, "hidden_size"), parts) if parts else ()
    return LayerShape(attention, mlp, norms)


def _attention(config: Config, part: Config, name: str) -> GqaAttention | None:
    if part.get("no_op"):
        return None
    heads = integer(config, name, "num_attention_heads")
    group = integer(part, name, "n_heads_in_group")
    biased = bool(config.get("attention_bias"))
    kv_heads = {**config, "num_key_value_heads": heads // group}
    window = part.get("window_length")
    return gqa(kv_heads, name, qkv_bias=biased, output_bias=biased, window_tokens=window)


def _mlp(config: Config, part: Config, name: str) -> DenseMlp | None:
    if part.get("no_op"):
        return None
    if part.get("ffn_mult") is None:
        size = integer(part, name, "intermediate_size")
    else:
        wide = int(2 * part["ffn_mult"] * integer(config, name, "hidden_size") / 3)
        size = ceil(wide / _SIZE_MULTIPLE) * _SIZE_MULTIPLE
    return DenseMlp(size, bias=bool(config.get("mlp_bias")))


READERS: dict[str, Reader] = {"nemotron-nas": read}
