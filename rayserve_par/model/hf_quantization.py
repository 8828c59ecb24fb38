"""From a checkpoint's `quantization_config` to a `Precision`.

Formats: fp8 (per tensor, per block), mxfp4, modelopt (FP8, NVFP4), compressed-tensors (fp8, int8,
int4, nvfp4, mxfp4), awq and gptq (int4, int8). A component is quantised unless the module that
stands for it, in the middle layer that has it, is on the checkpoint's ignore list. The embedding,
the head, norms and the router are taken as not quantised.
Scale sizes: fp8 32 bits per tensor or block (per output row 16), mxfp4 8 bits per 32, nvfp4 8 bits
per 16, integers 16 bits per group, plus the zero point for awq and gptq.
Left out: mixed precision inside one component, and formats that differ by layer; both are refused
where the config says so. Source: `vllm/model_executor/layers/quantization/`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from rayserve_par.errors import RefusedError
from rayserve_par.model.precision import LINEAR_COMPONENTS, Component, Precision

KNOWN_METHODS = ("fp8", "mxfp4", "modelopt", "modelopt_fp4", "compressed-tensors", "awq", "gptq")

_MODULES: dict[Component, tuple[str, ...]] = {
    Component.ATTENTION: ("self_attn.o_proj",),
    Component.DENSE_MLP: ("mlp.down_proj",),
    Component.ROUTED_EXPERTS: ("mlp.experts.0.down_proj", "block_sparse_moe.experts.0.w2"),
    Component.SHARED_EXPERTS: ("mlp.shared_experts.down_proj", "mlp.shared_expert.down_proj"),
}


def _matches(module: str, pattern: str) -> bool:
    """Whether an ignore-list entry (a regex `re:`, a glob or a module's name) covers `module`."""
    if pattern.startswith("re:"):
        return re.match(pattern[3:], module) is not None
    if "*" in pattern:
        return fnmatchcase(module, pattern) or fnmatchcase(module, pattern + ".*")
    return f".{pattern}." in f".{module}."


def _quantised(ignored: Iterable[str], layers: Mapping[Component, int]) -> tuple[Component, ...]:
    patterns = tuple(ignored)
    found = []
    for part in LINEAR_COMPONENTS:
        if part not in layers:
            continue
        modules = [
            f"{prefix}layers.{layers[part]}.{tail}"
            for prefix in ("model.", "language_model.model.", "model.language_model.")
            for tail in _MODULES[part]
        ]
        if not any(_matches(module, pattern) for module in modules for pattern in patterns):
            found.append(part)
    return tuple(found)


def _fp8(name: str, quant: Mapping[str, Any]) -> Precision:
    block = quant.get("weight_block_size")
    if block is None:
        return Precision(name="fp8", bits=8.0, scale_bits=32.0)
    if len(block) != 2 or min(block) < 1:
        raise RefusedError(f"{name}: weight_block_size {block} is not two positive numbers.")
    rows, columns = int(block[0]), int(block[1])
    label = f"fp8-block{rows}" if rows == columns else f"fp8-block{rows}x{columns}"
    return Precision(label, 8.0, scale_rows=rows, scale_columns=columns, scale_bits=32.0)


MXFP4 = Precision("mxfp4", 4.0, scale_rows=1, scale_columns=32, scale_bits=8.0, pads_blocks=True)
NVFP4 = Precision("nvfp4", 4.0, scale_rows=1, scale_columns=16, scale_bits=8.0)


def _group(name: str, weights: Mapping[str, Any]) -> Precision:
    """One `weights` entry of compressed-tensors' (or modelopt's) `config_groups`."""
    bits, kind = weights.get("num_bits"), weights.get("type")
    size = weights.get("group_size")
    strategy = weights.get("strategy") or ("group" if size else "tensor")
    if kind == "float" and bits == 4 and size in (16, 32):
        return NVFP4 if size == 16 else MXFP4
    if kind == "float" and bits == 8 and strategy in ("tensor", "channel", "block"):
        if strategy == "block":
            return _fp8(name, {"weight_block_size": weights.get("block_structure")})
        if strategy == "channel":
            return Precision("fp8-channel", 8.0, scale_rows=1, scale_bits=16.0)
        return Precision("fp8", 8.0, scale_bits=32.0)
    if kind == "int" and bits in (4, 8):
        return _integer(bits, int(size or -1), zero_point_bits=0.0)
    raise RefusedError(
        f"{name}: compressed-tensors weights of type {kind!r}, {bits} bits, strategy {strategy!r}, "
        f"group size {size} are not known. Known: float 4 (groups of 16 or 32), float 8 (tensor, "
        "channel, block), int 4 and int 8."
    )


def _integer(bits: int, group: int, zero_point_bits: float) -> Precision:
    columns = group if group > 0 else 0
    label = f"int{bits}-g{group}" if columns else f"int{bits}"
    return Precision(
        label, float(bits), scale_rows=1, scale_columns=columns, scale_bits=16.0 + zero_point_bits
    )


def _groups(name: str, quant: Mapping[str, Any]) -> Precision:
    groups = quant.get("config_groups") or {}
    found = {_group(name, group["weights"]) for group in groups.values() if group.get("weights")}
    if len(found) != 1:
        names = ", ".join(sorted(one.name for one in found)) or "none"
        raise RefusedError(
            f"{name}: quantization_config has {len(found)} weight formats ({names}); exactly one "
            "is understood. Use a checkpoint with one format."
        )
    return found.pop()


def _modelopt(name: str, quant: Mapping[str, Any]) -> Precision:
    algorithm = quant.get("quant_algo")
    known = {"FP8": Precision("fp8", 8.0, scale_bits=32.0), "NVFP4": NVFP4}
    if algorithm in known:
        return known[algorithm]
    if algorithm is None and quant.get("config_groups"):
        return _groups(name, quant)
    raise RefusedError(
        f"{name}: modelopt quant_algo {algorithm!r} is not known. Known: {', '.join(known)}."
    )


def precision_from_config(
    quant: Mapping[str, Any] | None,
    *,
    name: str,
    base: Precision,
    layers: Mapping[Component, int],
) -> Precision:
    """The precision of a checkpoint; `quant` is its `quantization_config`, None where absent.

    `base` is how everything that is not quantised is stored. `layers` gives, for every linear
    component the model has, one layer that has it.
    Raises RefusedError for a method or format that is not known.
    """
    if not quant:
        return base
    # hf_quant_config.json, which modelopt writes beside config.json, nests one level deeper.
    quant = quant.get("quantization", quant)
    method = quant.get("quant_method") or ("modelopt" if "quant_algo" in quant else None)
    if method == "fp8":
        found = _fp8(name, quant)
    elif method == "mxfp4":
        found = MXFP4
    elif method in ("modelopt", "modelopt_fp4"):
        found = _modelopt(name, quant)
    elif method == "compressed-tensors":
        found = _groups(name, quant)
    elif method in ("awq", "gptq"):
        bits = int(quant.get("bits") or quant.get("w_bit") or 4)
        group = int(quant.get("group_size") or quant.get("q_group_size") or 128)
        found = _integer(bits, group, zero_point_bits=float(bits))
    else:
        raise RefusedError(
            f"{name}: quantisation method {method!r} is not known. "
            f"Known: {', '.join(KNOWN_METHODS)}."
        )
    ignored: list[str] = []
    for key in ("modules_to_not_convert", "ignore", "exclude_modules"):
        ignored += quant.get(key) or []
    parts = _quantised(ignored, layers)
    if not parts:
        raise RefusedError(
            f"{name}: quantization_config ({method}) leaves out every linear layer: "
            f"{len(ignored)} ignored patterns. Check the config."
        )
    return replace(found, quantised=parts, base_bits=base.base_bits)
