"""From the words of a quantisation config to a `WeightFormat`.

    fp8         one float32 scale per tensor, per output row, or per block (1 byte each, "ue8m0")
    mxfp8/4     one 8-bit exponent per 32 inputs
    nvfp4       one fp8 scale per 16 inputs (and one float32 per tensor, left out)
    int4, int8  one 16-bit scale per group of inputs, and a zero point of the value's width where
                the scheme is asymmetric (GPTQ: always)

`compute_bits` is 16 where activations are not quantised.
Left out: the input order of activation-ordered GPTQ (4 bytes per input column).
Sources: the create_weights methods in vllm/model_executor/layers/quantization; OCP Microscaling
Formats 1.0 for mxfp4 and mxfp8.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rayserve_par.errors import RefusedError
from rayserve_par.model.weight_format import FP8, MXFP4, NVFP4, WeightFormat, fp8_block

MXFP8 = WeightFormat("mxfp8", 8.0, 1, 32, 8.0, compute_bits=8.0)
FP8_CHANNEL = WeightFormat("fp8-channel", 8.0, 1, 0, 32.0, compute_bits=8.0)
NVFP4_W4A16 = replace(NVFP4, name="nvfp4-w4a16", compute_bits=16.0)

# modelopt's quant_algo, as `LINEAR_ALGOS` in vllm's modelopt.py has them.
MODELOPT = {
    "FP8": FP8,
    "FP8_PER_CHANNEL_PER_TOKEN": FP8_CHANNEL,
    "FP8_PB_WO": fp8_block(128, 128),
    "FP8_BLOCK_SCALES": fp8_block(128, 128),
    "NVFP4": NVFP4,
    "W4A16_NVFP4": NVFP4_W4A16,
    "MXFP8": MXFP8,
}


def integer(
    bits: int, group: int | None, *, symmetric: bool = True, compute_bits: float = 16.0
) -> WeightFormat:
    """Integers with one 16-bit scale per `group` inputs; None, 0 or -1: one per output row."""
    columns = group if group and group > 0 else 0
    label = f"int{bits}-g{columns}" if columns else f"int{bits}"
    scale = 16.0 + (0 if symmetric else bits)
    return WeightFormat(label, float(bits), 1, columns, scale, compute_bits)


def blocks(name: str, block: Any, scale_format: str | None = None) -> WeightFormat:
    """FP8 by block; `scale_format` "ue8m0" stores a scale in one byte."""
    sound = isinstance(block, list | tuple) and len(block) == 2
    if not sound or any(isinstance(b, bool) or not isinstance(b, int) or b < 1 for b in block):
        raise RefusedError(f"{name}: weight_block_size {block!r} is not two positive numbers.")
    found = fp8_block(block[0], block[1])
    return replace(found, scale_bits=8.0) if scale_format == "ue8m0" else found


def modelopt(name: str, algorithm: Any) -> WeightFormat:
    """The format of a modelopt quant_algo."""
    found = MODELOPT.get(str(algorithm).upper())
    if found is None:
        raise RefusedError(
            f"{name}: modelopt quant_algo {algorithm!r} is not known. "
            f"Known: {', '.join(MODELOPT)}, MIXED_PRECISION."
        )
    return found


def scheme(name: str, weights: Mapping[str, Any], inputs: Mapping[str, Any] | None) -> WeightFormat:
    """The format of one group of compressed-tensors (or modelopt): its weights and inputs."""
    bits, kind, size = weights.get("num_bits"), weights.get("type"), weights.get("group_size")
    strategy = weights.get("strategy") or ("group" if size else "tensor")
    if kind == "float" and bits == 4 and size == 16:
        return NVFP4 if inputs else NVFP4_W4A16
    if kind == "float" and bits == 4 and size == 32:
        return MXFP4
    compute_bits = 8.0 if inputs else 16.0
    if kind == "float" and bits == 8:
        if size == 32:
            return MXFP8
        if strategy == "block":
            block = blocks(name, weights.get("block_structure"))
            return replace(block, compute_bits=compute_bits)
        if strategy in ("tensor", "channel"):
            found = FP8 if strategy == "tensor" else FP8_CHANNEL
            return replace(found, compute_bits=compute_bits)
    if kind == "int" and bits in (4, 8):
        symmetric = weights.get("symmetric", True) is not False
        return integer(bits, size, symmetric=symmetric, compute_bits=compute_bits)
    raise RefusedError(
        f"{name}: weights of type {kind!r}, {bits} bits, strategy {strategy!r}, group size {size} "
        "are not known. Known: float 4 (groups of 16 or 32), float 8 (tensor, channel, block, "
        "groups of 32), int 4 and int 8."
    )
