"""Gated delta net: linear attention with a fixed state per request (Qwen3-Next, Qwen3.5).

    conv channels     = 2 x key_heads x key_dim + value_heads x value_dim
    conv state        = conv channels / tp x (kernel - 1) x conv_state_bits / 8        bytes
    recurrent state   = value_heads / tp x value_dim x key_dim x state_bits / 8        bytes
    FLOPs per token   = value_heads / tp x 8 x key_dim x value_dim
                        (decay, read for the delta, update, read for the output: 2 each)

Left out: the states that speculative decoding and prefix caching keep besides.
Source: Yang et al., Gated Delta Networks (arXiv 2412.06464); `gated_delta_net_state_shape` and
`MambaSpec` of vLLM (vllm/model_executor/layers/mamba/mamba_utils.py).
"""

from dataclasses import dataclass

from rayserve_par.model.component import Component
from rayserve_par.model.matrix import Matrix, Split, vector
from rayserve_par.model.mixers.stateful import StatefulMixer

_PART = Component.RECURRENT


@dataclass(frozen=True, slots=True)
class GatedDeltaNet(StatefulMixer):
    """One gated delta net.

    `conv_state_bits` follows the KV cache's dtype in vLLM, `state_bits` the config's
    `mamba_ssm_dtype`. `is_fused` is the checkpoint's own layout of the input projections
    (Qwen3-Next: two matrices; Qwen3.5: four).
    """

    num_key_heads: int
    num_value_heads: int
    key_head_dim: int
    value_head_dim: int
    conv_kernel: int
    conv_state_bits: float = 16.0
    state_bits: float = 16.0
    is_fused: bool = False
    name: str = "linear_attn"

    @property
    def kind(self) -> str:
        """Gated delta net."""
        return "gated_delta_net"

    @property
    def num_heads(self) -> int:
        """Value heads: what TP divides."""
        return self.num_value_heads

    @property
    def key_features(self) -> int:
        """Width of all queries, and of all keys."""
        return self.num_key_heads * self.key_head_dim

    @property
    def value_features(self) -> int:
        """Width of all values."""
        return self.num_value_heads * self.value_head_dim

    @property
    def conv_channels(self) -> int:
        """Channels of the short convolution over queries, keys and values."""
        return 2 * self.key_features + self.value_features

    def matrices(self, hidden_size: int) -> tuple[Matrix, ...]:
        """All weights, at base precision. The convolution counts as vectors: never quantised."""
        heads, conv = self.num_value_heads, self.conv_channels
        if self.is_fused:
            inputs = {"in_proj_qkvz": conv + self.value_features, "in_proj_ba": 2 * heads}
        else:
            inputs = {"in_proj_qkv": conv, "in_proj_z": self.value_features}
            inputs |= {"in_proj_b": heads, "in_proj_a": heads}
        columns = Split.COLUMNS
        found = [
            Matrix(f"{self.name}.{name}", _PART, rows, hidden_size, columns)
            for name, rows in inputs.items()
        ]
        found.append(
            Matrix(f"{self.name}.out_proj", _PART, hidden_size, self.value_features, Split.ROWS)
        )
        found += [
            vector(f"{self.name}.conv1d", _PART, conv, columns, copies=self.conv_kernel),
            vector(f"{self.name}.decay", _PART, heads, columns, copies=2),
            vector(f"{self.name}.norm", Component.NORMS, self.value_head_dim, Split.WHOLE),
        ]
        return tuple(found)

    def state_bytes_per_request_per_rank(self, tp: int) -> float:
        """Convolution and recurrent state."""
        conv = self.conv_channels / tp * (self.conv_kernel - 1) * self.conv_state_bits / 8
        state = self.num_value_heads / tp * self.value_head_dim * self.key_head_dim
        return conv + state * self.state_bits / 8

    def flops_per_token_per_rank(self, tp: int) -> float:
        """The state's update and its reads."""
        return self.num_value_heads / tp * 8 * self.key_head_dim * self.value_head_dim
