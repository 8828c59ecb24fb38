"""Qwen3-Next and Qwen3.5: gated delta nets with a gated full attention every few layers.

    layer n is full attention    layer_types[n] = "full_attention", else
                                 (n + 1) mod full_attention_interval = 0
    state dtype                  mamba_ssm_dtype, else the model's own 16 bits

Source: vllm/model_executor/models/{qwen3_next,qwen3_5,config}.py.
"""

from dataclasses import replace

from rayserve_par.errors import RefusedError
from rayserve_par.model.families.attention import GqaTraits
from rayserve_par.model.families.experts import DenseTraits, MoeTraits
from rayserve_par.model.families.family import Config
from rayserve_par.model.families.fields import integer, layer_kinds, num_layers
from rayserve_par.model.families.stack import Stack
from rayserve_par.model.mixers.gated_delta_net import GatedDeltaNet
from rayserve_par.model.mixers.mixer import Mixer

_ATTENTION = GqaTraits(bias_field="qkv_bias", output_bias=False, qk_norm=True)
_STATE_BITS = {"float32": 32.0, "bfloat16": 16.0, "float16": 16.0}
_EXPERTS = MoeTraits(
    ("num_experts",),
    shared_width="shared_expert_intermediate_size",
    shared_gate=True,
    shared_name="shared_expert",
)
_MTP = ("mtp_num_hidden_layers", "num_nextn_predict_layers")


def _delta_net(config: Config, name: str, *, is_fused: bool) -> GatedDeltaNet:
    dtype = str(config.get("mamba_ssm_dtype") or "bfloat16")
    if dtype not in _STATE_BITS:
        raise RefusedError(
            f"{name}: mamba_ssm_dtype {dtype!r} is not known. Known: {', '.join(_STATE_BITS)}."
        )
    return GatedDeltaNet(
        num_key_heads=integer(config, name, "linear_num_key_heads"),
        num_value_heads=integer(config, name, "linear_num_value_heads"),
        key_head_dim=integer(config, name, "linear_key_head_dim"),
        value_head_dim=integer(config, name, "linear_value_head_dim"),
        conv_kernel=integer(config, name, "linear_conv_kernel_dim"),
        state_bits=_STATE_BITS[dtype],
        is_fused=is_fused,
    )


def _mixers(config: Config, name: str, *, is_fused: bool) -> tuple[Mixer, ...]:
    gate = config.get("attn_output_gate", True)
    attention: Mixer = replace(_ATTENTION.read(config, name), output_gate=bool(gate))
    linear: Mixer = _delta_net(config, name, is_fused=is_fused)
    kinds = layer_kinds(config, name)
    if not kinds:
        interval = config.get("full_attention_interval") or 4
        count = num_layers(config, name)
        is_full = tuple((n + 1) % interval == 0 for n in range(count))
    else:
        is_full = tuple(kind == "full_attention" for kind in kinds)
    return tuple(attention if full else linear for full in is_full)


def _next_mixers(config: Config, name: str) -> tuple[Mixer, ...]:
    return _mixers(config, name, is_fused=True)


def _split_mixers(config: Config, name: str) -> tuple[Mixer, ...]:
    return _mixers(config, name, is_fused=False)


QWEN3_NEXT = Stack(_next_mixers, _EXPERTS, mtp_fields=_MTP)
QWEN3_5 = Stack(_split_mixers, DenseTraits(), mtp_fields=_MTP)
QWEN3_5_MOE = Stack(_split_mixers, _EXPERTS, mtp_fields=_MTP)
