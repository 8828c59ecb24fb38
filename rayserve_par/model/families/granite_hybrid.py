"""Granite 4.0 hybrids: Mamba-2 or attention in every layer, experts beside a shared MLP.

    mixer of layer n   attention where layer_types[n] is "attention" or "full_attention"
    feed-forward       experts and a shared MLP; the shared MLP alone where num_local_experts is 0
    state              16 bits (vLLM's dtype "auto" is the model's own)

Source: vllm/model_executor/models/granitemoehybrid.py, `_mamba_state_dtype` in
vllm/model_executor/layers/mamba/mamba_utils.py.
"""

from rayserve_par.errors import RefusedError
from rayserve_par.model.families.attention import GqaTraits
from rayserve_par.model.families.experts import MoeTraits
from rayserve_par.model.families.family import Config, Reader
from rayserve_par.model.families.fields import integer, layer_kinds, num_layers
from rayserve_par.model.families.stack import Stack
from rayserve_par.model.ffn import DenseMlp, Ffn
from rayserve_par.model.mixers.mamba2 import Mamba2
from rayserve_par.model.mixers.mixer import Mixer

_MAMBA = ("mamba", "linear_attention")
_ATTENTION = ("attention", "full_attention")
_EXPERTS = MoeTraits(
    ("num_local_experts",),
    width=("intermediate_size",),
    shared_width="shared_intermediate_size",
    name="block_sparse_moe",
)


def _mixers(config: Config, name: str) -> tuple[Mixer, ...]:
    kinds = layer_kinds({"layer_types": config.get("layers_block_type"), **config}, name)
    unknown = sorted(set(kinds) - {*_MAMBA, *_ATTENTION})
    if not kinds or unknown:
        raise RefusedError(
            f"{name}: layer_types must name each layer as {' or '.join(_MAMBA + _ATTENTION)}; "
            f"found {unknown or 'none'}. Check config.json."
        )
    attention, mamba = GqaTraits().read(config, name), _mamba(config, name)
    return tuple(attention if kind in _ATTENTION else mamba for kind in kinds)


def _mamba(config: Config, name: str) -> Mamba2:
    if config.get("mamba_proj_bias"):
        raise RefusedError(f"{name}: mamba_proj_bias is true; projections with biases are unknown.")
    heads = integer(config, name, "mamba_n_heads")
    inner = integer(config, name, "mamba_expand") * integer(config, name, "hidden_size")
    return Mamba2(
        num_heads=heads,
        head_dim=inner // heads,
        state_size=integer(config, name, "mamba_d_state"),
        num_groups=integer(config, name, "mamba_n_groups"),
        conv_kernel=integer(config, name, "mamba_d_conv"),
        conv_bias=bool(config.get("mamba_conv_bias", True)),
        state_bits=16.0,
        name="mamba",
    )


def _ffns(config: Config, name: str) -> tuple[Ffn, ...]:
    if integer(config, name, "num_local_experts"):
        return _EXPERTS(config, name)
    shared = DenseMlp(integer(config, name, "shared_intermediate_size"), name="shared_mlp")
    return (shared,) * num_layers(config, name)


READERS: dict[str, Reader] = {"granitemoehybrid": Stack(_mixers, _ffns)}
