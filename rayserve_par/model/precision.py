"""How weights are stored: bits per value, and the scales that come with quantised ones.

    bytes of a quantised matrix = out x in x bits / 8  +  scales x scale_bits / 8
    scales = ceil(out / scale_rows) x ceil(in / scale_columns)

A scale dimension of 0 means "the whole dimension": (0, 0) is one scale per tensor, (1, 0) one
per output row, (128, 128) one per block, (1, 32) one per 32 inputs of a row.
Components that are not quantised are kept at `base_bits`. Left out: scales of activations and
of the KV cache (a few bytes per layer) and the permutations of activation-ordered GPTQ.
"""

from dataclasses import dataclass
from enum import StrEnum
from math import ceil


class Component(StrEnum):
    """The parts of a model that are stored, split and quantised alike."""

    EMBEDDING = "embedding"
    HEAD = "head"
    ATTENTION = "attention"
    DENSE_MLP = "dense_mlp"
    ROUTED_EXPERTS = "routed_experts"
    SHARED_EXPERTS = "shared_experts"
    ROUTER = "router"
    NORMS = "norms"


LINEAR_COMPONENTS = (
    Component.ATTENTION,
    Component.DENSE_MLP,
    Component.ROUTED_EXPERTS,
    Component.SHARED_EXPERTS,
)
"""What a checkpoint's quantiser converts unless it is told to leave it."""


@dataclass(frozen=True, slots=True)
class Precision:
    """Storage of the weights.

    `bits` is for one quantised value without its scale; `base_bits` for everything else.
    `pads_blocks` is true where the engine pads a tensor-parallel share up to whole blocks
    (MXFP4 in vLLM) rather than refusing it.
    """

    name: str
    bits: float
    base_bits: float = 16.0
    scale_rows: int = 0
    scale_columns: int = 0
    scale_bits: float = 0.0
    quantised: tuple[Component, ...] = ()
    pads_blocks: bool = False

    @property
    def is_quantised(self) -> bool:
        """Whether any component is stored at fewer bits than the rest."""
        return bool(self.quantised)

    @property
    def nominal_bits(self) -> float:
        """Bits per parameter of the format with its scales, to a quarter bit (MXFP4: 4.25)."""
        if not self.is_quantised:
            return self.base_bits
        values_per_scale = self.scale_rows * self.scale_columns
        overhead = self.scale_bits / values_per_scale if values_per_scale else 0.0
        return round(4 * (self.bits + overhead)) / 4

    @property
    def block_rows(self) -> int:
        """Outputs that share a scale and may not be cut apart; 1 where rows are free."""
        return self.scale_rows if self.is_quantised and self.scale_rows else 1

    @property
    def block_columns(self) -> int:
        """Inputs that share a scale and may not be cut apart; 1 where columns are free."""
        return self.scale_columns if self.is_quantised and self.scale_columns else 1

    def matrix_bytes(self, component: Component, out_features: int, in_features: int) -> float:
        """Bytes of one out_features x in_features matrix of `component`, scales included."""
        if component not in self.quantised:
            return out_features * in_features * self.base_bits / 8
        scales_out = ceil(out_features / self.scale_rows) if self.scale_rows else 1
        scales_in = ceil(in_features / self.scale_columns) if self.scale_columns else 1
        scale_bytes = scales_out * scales_in * self.scale_bits / 8
        return out_features * in_features * self.bits / 8 + scale_bytes


BF16 = Precision(name="bf16", bits=16.0)
