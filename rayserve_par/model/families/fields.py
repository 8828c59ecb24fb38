"""Reading fields of a config: exact or refused.

A field that is missing takes the default of the type's own config class in transformers where
checkpoints rely on it (defaults.py); any other missing field is refused.
"""

from typing import Any

from rayserve_par.errors import RefusedError
from rayserve_par.model.families.family import Config
from rayserve_par.model.mixers.attention import GqaAttention


def integer(config: Config, name: str, *fields: str) -> int:
    """The first of `fields` that the config has, as a whole number.

    Raises RefusedError where none is there or the value is something else.
    """
    for field in fields:
        value = config.get(field)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int):
            raise RefusedError(f"{name}: {field} is {value!r}; it must be a whole number.")
        return value
    raise RefusedError(f"{name}: the config has no {' or '.join(fields)}. Check config.json.")


def num_layers(config: Config, name: str) -> int:
    """`num_hidden_layers`, at least 1."""
    count = integer(config, name, "num_hidden_layers", "num_layers")
    if count < 1:
        raise RefusedError(f"{name}: number of layers is {count}; it must be at least 1.")
    return count


def layer_kinds(config: Config, name: str) -> tuple[str, ...]:
    """`layer_types`, one for each layer; empty where the config has none."""
    kinds = config.get("layer_types")
    if kinds is None:
        return ()
    count = num_layers(config, name)
    if len(kinds) < count:
        raise RefusedError(
            f"{name}: layer_types has {len(kinds)} entries for {count} layers. Check config.json."
        )
    return tuple(map(str, kinds[:count]))


def head_dim(config: Config, name: str, heads: int) -> int:
    """`head_dim`, or hidden_size / heads."""
    if config.get("head_dim") is not None:
        return integer(config, name, "head_dim")
    hidden = integer(config, name, "hidden_size")
    if hidden % heads:
        raise RefusedError(
            f"{name}: hidden_size {hidden} is not divisible by {heads} attention heads and the "
            "config has no head_dim. Check config.json."
        )
    return hidden // heads


def gqa(config: Config, name: str, /, **traits: Any) -> GqaAttention:
    """Grouped-query attention by the usual fields; `traits` are further fields of the mixer."""
    heads = integer(config, name, "num_attention_heads")
    kv_heads = config.get("num_key_value_heads") or heads
    if heads < 1:
        raise RefusedError(f"{name}: num_attention_heads is {heads}; it must be at least 1.")
    if kv_heads < 1 or heads % kv_heads:
        raise RefusedError(
            f"{name}: {heads} attention heads are not a multiple of {kv_heads} KV heads. "
            "Check the config."
        )
    return GqaAttention(heads, kv_heads, head_dim(config, name, heads), **traits)
