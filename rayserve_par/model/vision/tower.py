"""Building blocks of vision towers: a linear layer, a norm, a transformer block.

vLLM cuts a tower as it cuts the language model (`mm_encoder_tp_mode` is "weights" by default):
queries, keys, values and the first matrix of an MLP by columns, the output and the second matrix by
rows; everything else is whole on every rank.
Left out: towers whose heads do not divide by tp (vLLM then keeps some of them whole).
Source: vllm/config/multimodal.py, vllm/model_executor/models/vision.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rayserve_par.model.component import Component
from rayserve_par.model.matrix import Matrix, Split, vector

Config = Mapping[str, Any]
TowerReader = Callable[[Config, str], tuple[Matrix, ...]]

_PART = Component.VISION


def linear(
    name: str, rows: int, columns: int, split: Split, copies: int = 1, *, bias: bool = False
) -> tuple[Matrix, ...]:
    """A matrix and its bias: cut with the columns, whole otherwise."""
    matrix = Matrix(name, _PART, rows, columns, split, copies)
    if not bias:
        return (matrix,)
    cut = split if split is Split.COLUMNS else Split.WHOLE
    return (matrix, vector(f"{name}_bias", _PART, rows, cut, copies))


def values(name: str, length: int, copies: int = 1) -> tuple[Matrix, ...]:
    """Norms, position tables and the like: whole on every rank."""
    return (vector(name, _PART, length, Split.WHOLE, copies),)


@dataclass(frozen=True, slots=True)
class VisionBlocks:
    """`count` equal transformer blocks. `attention_size` is the width of all heads together.

    `norm_values` is what all norms of a block hold. `output_bias` is that of the attention's output
    where it differs from `attention_bias`. `is_cut` is false where every rank keeps the
    tower whole.
    """

    count: int
    hidden_size: int
    intermediate_size: int
    norm_values: int
    attention_size: int
    attention_bias: bool = True
    mlp_bias: bool = True
    gated: bool = False
    is_cut: bool = True
    output_bias: bool | None = None

    def matrices(self, prefix: str) -> tuple[Matrix, ...]:
        """All weights of all blocks."""
        columns = Split.COLUMNS if self.is_cut else Split.WHOLE
        rows = Split.ROWS if self.is_cut else Split.WHOLE
        hidden, wide, inner, n = (
            self.hidden_size,
            self.attention_size,
            self.intermediate_size,
            self.count,
        )
        attention, mlp, bias = f"{prefix}.attn", f"{prefix}.mlp", self.attention_bias
        out_bias = bias if self.output_bias is None else self.output_bias
        ups = 2 if self.gated else 1
        return (
            *linear(f"{attention}.qkv", wide, hidden, columns, 3 * n, bias=bias),
            *linear(f"{attention}.proj", hidden, wide, rows, n, bias=out_bias),
            *linear(f"{mlp}.fc1", inner, hidden, columns, ups * n, bias=self.mlp_bias),
            *linear(f"{mlp}.fc2", hidden, inner, rows, n, bias=self.mlp_bias),
            *values(f"{prefix}.norms", self.norm_values, n),
        )
