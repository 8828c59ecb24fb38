"""What safetensors headers say of a checkpoint, and a spec that agrees with them: they win.

    bytes of a tensor  = product of its shape x bytes of its dtype
    factor of a part   = bytes in the files / bytes in the spec, part by part
    a format's bits and scale bits are multiplied by its part's factor, unless that is 1 +- 0.1%

so that the spec's bytes become the files' while its shapes stay those of the config: biases,
scales and layers that are kept in another precision are counted as they are. Bytes of parts that
the spec has not (names that are not recognised) are spread over all others. Without a head in the
files the embedding is tied.
Left out of the bytes: MTP layers (`mtp.`, and layers beyond the last). Matrices in float32 count
at 16 bits where the spec has no float32, as vLLM's dtype "auto" loads them; scales do not.
Source: https://github.com/huggingface/safetensors (format), tensor names of published checkpoints.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from rayserve_par.errors import RefusedError
from rayserve_par.model.component import Component
from rayserve_par.model.layer import Layer
from rayserve_par.model.matrix import Matrix, Split
from rayserve_par.model.spec import ModelSpec
from rayserve_par.model.weight_format import BF16

_BITS = {"BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "F16": 16, "BF16": 16, "C64": 64}
_NEGLIGIBLE = 1e-3
_LAYER = re.compile(r"(?:^|\.)(?:layers|blocks|h)\.(\d+)\.")

# The first that is found in a tensor's name gives its part.
_PARTS: tuple[tuple[Component, re.Pattern[str]], ...] = tuple(
    (part, re.compile(pattern))
    for part, pattern in (
        (Component.VISION, r"visual\.|vision|multi_modal_projector|mm_projector|image_newline"),
        (Component.NORMS, r"norm"),
        (Component.EMBEDDING, r"embed_tokens|word_embeddings|(?:^|\.)(?:embeddings?|embed|wte)\."),
        (Component.HEAD, r"lm_head|^head\."),
        (Component.SHARED_EXPERTS, r"shared_expert|share_expert|shared_mlp"),
        (Component.ROUTER, r"\.(?:gate|router)\.|e_score_correction_bias|expert_bias$"),
        (Component.ROUTED_EXPERTS, r"\.experts\.|block_sparse_moe|\.moe\."),
        (Component.RECURRENT, r"linear_attn|mamba|\.A_log|conv1d|dt_bias|mixer\.(?:in|out)_proj"),
        (Component.ATTENTION, r"attn|attention|[qkvo]_proj"),
        (Component.DENSE_MLP, r"mlp|feed_forward|\.ffn\.|(?:up|gate|down)_proj"),
    )
)


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a checkpoint, as its header has it."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def bits(self) -> int:
        """Bits per value. Raises RefusedError for a dtype that is not known."""
        digits = re.match(r"[FIU](\d+)(?:_|$)", self.dtype)
        found = _BITS.get(self.dtype) or (int(digits[1]) if digits else 0)
        if not found:
            raise RefusedError(f"{self.name}: safetensors dtype {self.dtype!r} is not known.")
        return found

    @property
    def stored_bytes(self) -> float:
        """Bytes in the file."""
        return prod(self.shape) * self.bits / 8

    @property
    def part(self) -> Component | None:
        """What the tensor belongs to by its name; None where no name is recognised."""
        return next((part for part, pattern in _PARTS if pattern.search(self.name)), None)

    def is_mtp(self, num_layers: int) -> bool:
        """Whether it belongs to multi-token prediction."""
        if self.name.startswith("mtp.") or ".mtp." in self.name:
            return True
        layer = _LAYER.search(self.name)
        return (
            layer is not None
            and self.part is not Component.VISION
            and (int(layer[1]) >= num_layers)
        )

    def loaded_bytes(self, *, keeps_float32: bool) -> float:
        """Bytes once loaded: float32 matrices at 16 bits unless the engine keeps them."""
        is_scale = "scale" in self.name.rpartition(".")[2]
        if self.dtype == "F32" and len(self.shape) > 1 and not (keeps_float32 or is_scale):
            return self.stored_bytes / 2
        return self.stored_bytes


def tensors_from_header(header: Mapping[str, Any]) -> tuple[Tensor, ...]:
    """The tensors of one parsed safetensors header."""
    return tuple(
        Tensor(name, str(entry["dtype"]), tuple(entry["shape"]))
        for name, entry in header.items()
        if name != "__metadata__"
    )


def stored_bytes(tensors: Iterable[Tensor]) -> float:
    """Bytes of all tensors."""
    return sum(tensor.stored_bytes for tensor in tensors)


def loaded_bytes_by_component(
    tensors: Iterable[Tensor], num_layers: int, *, keeps_float32: bool = False
) -> dict[Component | None, float]:
    """Loaded bytes of each part, without MTP; None holds what is not recognised."""
    totals: dict[Component | None, float] = {}
    for tensor in tensors:
        if not tensor.is_mtp(num_layers):
            size = tensor.loaded_bytes(keeps_float32=keeps_float32)
            totals[tensor.part] = totals.get(tensor.part, 0.0) + size
    return totals


def corrected_spec(spec: ModelSpec, tensors: Iterable[Tensor]) -> ModelSpec:
    """`spec` with the bytes that the files hold. Raises RefusedError where they hold no tensor."""
    keeps = spec.embedding.format.bits > BF16.bits
    found = loaded_bytes_by_component(tensors, spec.num_layers, keeps_float32=keeps)
    if not sum(found.values()):
        raise RefusedError(f"{spec.name}: the safetensors files hold no tensor of the model.")
    spec = _tied(spec, has_head=Component.HEAD in found)
    if spec.tied_embeddings:
        # A head in the files of a tied model is a copy that engines skip.
        found.pop(Component.HEAD, None)
    held = spec.weight_bytes_by_component
    vision = found.get(Component.VISION, 0.0)
    if vision and Component.VISION not in held:
        tower = Matrix("vision", Component.VISION, int(vision / 2), 1, Split.WHOLE)
        spec, held = replace(spec, vision=(tower,)), {**held, Component.VISION: 2 * (vision // 2)}
    known = sum(size for part, size in found.items() if part in held)
    spread = sum(found.values()) / known if known else 1.0
    factors = {
        part: found[part] * spread / size for part, size in held.items() if part in found and size
    }
    return _scaled(spec, factors)


def _tied(spec: ModelSpec, *, has_head: bool) -> ModelSpec:
    if spec.tied_embeddings or has_head:
        return spec
    head = tuple(m for m in spec.head if m.component is not Component.HEAD)
    return replace(spec, head=head, tied_embeddings=True)


def _scaled(spec: ModelSpec, factors: Mapping[Component, float]) -> ModelSpec:
    layers = {id(layer): _scaled_layer(layer, factors) for layer, _ in spec.layer_counts}
    return replace(
        spec,
        layers=tuple(layers[id(layer)] for layer in spec.layers),
        embedding=_scaled_matrix(spec.embedding, factors),
        head=tuple(_scaled_matrix(m, factors) for m in spec.head),
        vision=tuple(_scaled_matrix(m, factors) for m in spec.vision),
    )


def _scaled_layer(layer: Layer, factors: Mapping[Component, float]) -> Layer:
    return replace(layer, matrices=tuple(_scaled_matrix(m, factors) for m in layer.matrices))


def _scaled_matrix(matrix: Matrix, factors: Mapping[Component, float]) -> Matrix:
    factor, stored = factors.get(matrix.component, 1.0), matrix.format
    if abs(factor - 1) < _NEGLIGIBLE:
        return matrix
    scaled = replace(stored, bits=stored.bits * factor, scale_bits=stored.scale_bits * factor)
    return matrix.stored_as(scaled)
