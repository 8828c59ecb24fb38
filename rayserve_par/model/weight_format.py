"""How one weight matrix is stored: bits per value, and the scales that come with them.

    bytes of a matrix = out x in x bits / 8  +  scales x scale_bits / 8
    scales            = ceil(out / scale_rows) x ceil(in / scale_columns)

A scale dimension of 0 means "the whole dimension": (0, 0) is one scale per tensor, (1, 0) one
per output row, (128, 128) one per block, (1, 32) one per 32 inputs of a row.
Left out: scales of activations and of the KV cache (a few bytes per layer) and the permutations
of activation-ordered GPTQ.
"""

from dataclasses import dataclass
from math import ceil


@dataclass(frozen=True, slots=True)
class WeightFormat:
    """Storage of one matrix.

    `bits` is for one value without its scale. `compute_bits` is the width of the operands that
    the matrix product takes where the GPU has it (weight-only formats: 16). `pads_blocks` is true
    where the engine pads a tensor-parallel share up to whole blocks (MXFP4) rather than refusing.
    """

    name: str
    bits: float
    scale_rows: int = 0
    scale_columns: int = 0
    scale_bits: float = 0.0
    compute_bits: float = 16.0
    pads_blocks: bool = False

    @property
    def is_quantised(self) -> bool:
        """Whether values carry scales."""
        return self.scale_bits > 0

    @property
    def nominal_bits(self) -> float:
        """Bits per parameter with scales, to a quarter bit (MXFP4: 4.25)."""
        values_per_scale = self.scale_rows * self.scale_columns
        overhead = self.scale_bits / values_per_scale if values_per_scale else 0.0
        return round(4 * (self.bits + overhead)) / 4

    @property
    def block_rows(self) -> int:
        """Outputs that share a scale and may not be cut apart; 1 where rows are free."""
        return self.scale_rows or 1

    @property
    def block_columns(self) -> int:
        """Inputs that share a scale and may not be cut apart; 1 where columns are free."""
        return self.scale_columns or 1

    def matrix_bytes(self, out_features: int, in_features: int) -> float:
        """Bytes of one out_features x in_features matrix, scales included."""
        scales_out = ceil(out_features / self.scale_rows) if self.scale_rows else 1
        scales_in = ceil(in_features / self.scale_columns) if self.scale_columns else 1
        scale_bytes = scales_out * scales_in * self.scale_bits / 8
        return out_features * in_features * self.bits / 8 + scale_bytes


BF16 = WeightFormat("bf16", 16.0)
FP16 = WeightFormat("fp16", 16.0)
FP32 = WeightFormat("fp32", 32.0, compute_bits=32.0)
FP8 = WeightFormat("fp8", 8.0, scale_bits=32.0, compute_bits=8.0)
MXFP4 = WeightFormat("mxfp4", 4.0, 1, 32, 8.0, pads_blocks=True)
NVFP4 = WeightFormat("nvfp4", 4.0, 1, 16, 8.0, compute_bits=4.0)


def fp8_block(rows: int, columns: int) -> WeightFormat:
    """FP8 with one float32 scale per block of rows x columns."""
    label = f"fp8-block{rows}" if rows == columns else f"fp8-block{rows}x{columns}"
    return WeightFormat(label, 8.0, rows, columns, 32.0, compute_bits=8.0)
