"""Mamba-2: a selective state space with a fixed state per request (Nemotron-H, Nemotron-3).

    inner width       = heads x head_dim
    conv channels     = inner width + 2 x groups x state_size
    conv state        = conv channels / tp x (kernel - 1) x conv_state_bits / 8          bytes
    recurrent state   = heads / tp x head_dim x state_size x state_bits / 8              bytes
    FLOPs per token   = heads / tp x 6 x head_dim x state_size
                        (decay, input's outer product and its addition, read for the output)

Where groups do not divide by tp they are repeated, so that every rank has the groups of its heads
(vLLM allows that only for one group).
Left out: the extra operations of the chunked scan in a prefill (it trades them for matrix
products), the states that speculative decoding and prefix caching keep besides.
Source: Dao and Gu, Mamba-2 (arXiv 2405.21060); `MambaMixer2` and `mamba2_state_shape` of vLLM
(vllm/model_executor/layers/mamba/mamba_mixer2.py, mamba_utils.py).
"""

from dataclasses import dataclass
from math import ceil

from rayserve_par.model.component import Component
from rayserve_par.model.matrix import Matrix, Split, vector
from rayserve_par.model.mixers.stateful import StatefulMixer

_PART = Component.RECURRENT


@dataclass(frozen=True, slots=True)
class Mamba2(StatefulMixer):
    """One Mamba-2 mixer.

    `conv_state_bits` follows the model's dtype in vLLM, `state_bits` the config's
    `mamba_ssm_cache_dtype`.
    """

    num_heads: int
    head_dim: int
    state_size: int
    num_groups: int
    conv_kernel: int
    conv_bias: bool = True
    conv_state_bits: float = 16.0
    state_bits: float = 32.0
    name: str = "mixer"

    @property
    def kind(self) -> str:
        """Mamba-2."""
        return "mamba2"

    @property
    def inner_size(self) -> int:
        """Width of all heads."""
        return self.num_heads * self.head_dim

    def matrices(self, hidden_size: int) -> tuple[Matrix, ...]:
        """All weights, at base precision. The convolution counts as vectors: never quantised."""
        inner, columns, name = self.inner_size, Split.COLUMNS, self.name
        groups, state = self.num_groups * self.state_size, self.state_size
        taps = self.conv_kernel + (1 if self.conv_bias else 0)
        gate_values_steps = 2 * inner + self.num_heads
        return (
            Matrix(f"{name}.in_proj", _PART, gate_values_steps, hidden_size, columns),
            Matrix(
                f"{name}.in_proj",
                _PART,
                groups,
                hidden_size,
                Split.KV_HEADS,
                2,
                head_features=state,
            ),
            Matrix(f"{name}.out_proj", _PART, hidden_size, inner, Split.ROWS),
            vector(f"{name}.conv1d", _PART, inner, columns, copies=taps),
            Matrix(
                f"{name}.conv1d", _PART, groups, 1, Split.KV_HEADS, 2 * taps, head_features=state
            ),
            vector(f"{name}.decay", _PART, self.num_heads, columns, copies=3),
            vector(f"{name}.norm", Component.NORMS, inner, columns),
        )

    def state_bytes_per_request_per_rank(self, tp: int) -> float:
        """Convolution and recurrent state."""
        groups_per_rank = ceil(self.num_groups / tp)
        channels = self.inner_size / tp + 2 * groups_per_rank * self.state_size
        conv = channels * (self.conv_kernel - 1) * self.conv_state_bits / 8
        return conv + self.inner_size / tp * self.state_size * self.state_bits / 8

    def flops_per_token_per_rank(self, tp: int) -> float:
        """The state's update and its read."""
        return 6 * self.inner_size / tp * self.state_size
