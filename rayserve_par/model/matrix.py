"""One weight matrix, with the dimension that parallelism cuts and the way it is stored.

    parameters = copies x out_features x in_features

What a rank of a TP group of size tp holds (routed experts: moe_tp and ep instead):

    COLUMNS     out_features / tp             q, gate, up, biases and sinks per head
    ROWS        in_features / tp              o, down
    KV_HEADS    ceil(heads / tp) heads of `head_features` rows: repeated when tp exceeds them
    VOCABULARY  ceil64(out_features) / tp     embedding, head: vLLM pads to a multiple of 64
    WHOLE       everything                    norms, router, MLA's down-projections, o bias
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from rayserve_par.model.component import Component
from rayserve_par.model.weight_format import BF16, WeightFormat


class Split(StrEnum):
    """Which dimension of a matrix a TP group cuts."""

    COLUMNS = "columns"
    ROWS = "rows"
    KV_HEADS = "kv_heads"
    VOCABULARY = "vocabulary"
    WHOLE = "whole"


@dataclass(frozen=True, slots=True)
class Matrix:
    """`copies` alike matrices. A vector (norm, bias) has in_features 1.

    `name` is the module's name inside its layer as the checkpoint has it ("self_attn.q_proj",
    "mlp.experts.0.down_proj" standing for all experts), which quantisation rules match.
    """

    name: str
    component: Component
    out_features: int
    in_features: int
    split: Split
    copies: int = 1
    head_features: int = 1
    format: WeightFormat = BF16

    def stored_as(self, stored: WeightFormat) -> "Matrix":
        """The same matrix in another format."""
        return replace(self, format=stored)

    @property
    def is_vector(self) -> bool:
        """Vectors are never quantised."""
        return self.in_features == 1

    @property
    def parameters(self) -> int:
        """Number of values in all copies."""
        return self.copies * self.out_features * self.in_features

    @property
    def weight_bytes(self) -> float:
        """Stored bytes of all copies, scales included."""
        return self.copies * self.format.matrix_bytes(self.out_features, self.in_features)


def vector(name: str, component: Component, length: int, split: Split, copies: int = 1) -> Matrix:
    """A norm, bias or other vector of `length` values."""
    return Matrix(name, component, length, 1, split, copies)
