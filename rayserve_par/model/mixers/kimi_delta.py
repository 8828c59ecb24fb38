"""Kimi delta attention: linear attention whose state decays per channel (Kimi Linear, Kimi K3).

    width             = heads x head_dim                      of queries, keys, values and gate each
    conv state        = 3 x width / tp x (kernel - 1) x conv_state_bits / 8              bytes
    recurrent state   = width / tp x head_dim x state_bits / 8                           bytes
    FLOPs per token   = width / tp x 8 x head_dim
                        (decay, read for the delta, update, read for the output: 2 each)

The output gate is one matrix of full rank (Kimi K3) or a product of two through head_dim values
(Kimi Linear); the decay always goes through head_dim values, and that down-projection is whole on
every rank.
Left out: the extra operations of the chunked form in a prefill, the states that speculative
decoding and prefix caching keep besides.
Source: Kimi Linear (arXiv 2510.26692); `KimiK3DeltaAttention` and `kda_state_shape` of vLLM
(vllm/models/kimi_k3/nvidia/kda.py, vllm/model_executor/layers/mamba/mamba_utils.py).
"""

from dataclasses import dataclass

from rayserve_par.model.component import Component
from rayserve_par.model.matrix import Matrix, Split, vector
from rayserve_par.model.mixers.stateful import StatefulMixer

_PART = Component.RECURRENT


@dataclass(frozen=True, slots=True)
class KimiDelta(StatefulMixer):
    """One Kimi delta attention. vLLM keeps the recurrent state in float32 unless told otherwise."""

    num_heads: int
    head_dim: int
    conv_kernel: int
    full_rank_gate: bool
    conv_state_bits: float = 16.0
    state_bits: float = 32.0
    name: str = "self_attn"

    @property
    def kind(self) -> str:
        """Kimi delta attention."""
        return "kimi_delta"

    @property
    def width(self) -> int:
        """Width of all heads."""
        return self.num_heads * self.head_dim

    def matrices(self, hidden_size: int) -> tuple[Matrix, ...]:
        """All weights, at base precision. The convolution counts as vectors: never quantised."""
        width, dim, columns, name = self.width, self.head_dim, Split.COLUMNS, self.name
        found = [Matrix(f"{name}.{one}_proj", _PART, width, hidden_size, columns) for one in "qkv"]
        if self.full_rank_gate:
            found.append(Matrix(f"{name}.g_proj", _PART, width, hidden_size, columns))
        else:
            found.append(Matrix(f"{name}.g_a_proj", _PART, dim, hidden_size, Split.WHOLE))
            found.append(Matrix(f"{name}.g_b_proj", _PART, width, dim, columns))
        found += [
            Matrix(f"{name}.f_a_proj", _PART, dim, hidden_size, Split.WHOLE),
            Matrix(f"{name}.f_b_proj", _PART, width, dim, columns),
            Matrix(f"{name}.b_proj", _PART, self.num_heads, hidden_size, columns),
            Matrix(f"{name}.o_proj", _PART, hidden_size, width, Split.ROWS),
            vector(f"{name}.conv1d", _PART, 3 * width, columns, copies=self.conv_kernel),
            vector(f"{name}.dt_bias", _PART, width, columns),
            vector(f"{name}.A_log", _PART, self.num_heads, columns),
            vector(f"{name}.o_norm", Component.NORMS, dim, Split.WHOLE),
        ]
        return tuple(found)

    def state_bytes_per_request_per_rank(self, tp: int) -> float:
        """Convolution and recurrent state."""
        conv = 3 * self.width / tp * (self.conv_kernel - 1) * self.conv_state_bits / 8
        return conv + self.width / tp * self.head_dim * self.state_bits / 8

    def flops_per_token_per_rank(self, tp: int) -> float:
        """The state's update and its reads."""
        return 8 * self.width / tp * self.head_dim
