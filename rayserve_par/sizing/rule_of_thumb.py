"""The rule of thumb: how many GPUs an instance wants, from three numbers.

    bytes per parameter = bits / 8
    VRAM in GB          = bytes per parameter x parameters in billions x KV allowance (1.8)
    instance            = the smallest size the hardware offers whose memory is at least that

Sizes offered: powers of two up to a node and the whole node; beyond it, whole nodes. GB are
decimal and memory is as marketed. Worked example: 671B x 8 bits / 8 x 1.8 = 1207.8 GB ->
8 x B200 = 1440 GB, not 4, because 4 x 180 = 720 GB leaves no room for KV cache.
`bits` is the format's nominal value (fp8 8, MXFP4 4.25); rank_memory.py has the exact bytes.
Left out: which sizes are legal for the model, activations, and what each rank holds.
"""

from dataclasses import dataclass
from math import ceil, isfinite

from rayserve_par.errors import RefusedError
from rayserve_par.hardware.gpu import Gpu
from rayserve_par.model.spec import ModelSpec

DEFAULT_KV_ALLOWANCE = 1.8


def instance_sizes(gpus_per_node: int) -> tuple[int, ...]:
    """Sizes within a node: powers of two, and the whole node. Ascending."""
    powers = [2**n for n in range(gpus_per_node.bit_length()) if 2**n <= gpus_per_node]
    return tuple(sorted({*powers, gpus_per_node}))


def _gb(value: float) -> str:
    return f"{value:.1f} GB" if value >= 10 else f"{value:.2f} GB"


@dataclass(frozen=True, slots=True)
class RuleOfThumb:
    """The rule applied to one model on one kind of node. Memory in decimal GB."""

    parameters_billions: float
    bits: float
    kv_allowance: float
    gpu_name: str
    gpu_memory_gb: float
    gpus_per_node: int

    @property
    def weights_gb(self) -> float:
        """Weights alone."""
        return self.parameters_billions * self.bits / 8

    @property
    def vram_gb(self) -> float:
        """Weights times the KV allowance."""
        return self.weights_gb * self.kv_allowance

    def memory_gb(self, gpus: int) -> float:
        """Memory of `gpus` GPUs as marketed."""
        return gpus * self.gpu_memory_gb

    def holds(self, gpus: int) -> bool:
        """Whether `gpus` GPUs have the memory that the rule asks for."""
        return self.memory_gb(gpus) >= self.vram_gb

    @property
    def gpus(self) -> int:
        """The smallest offered size that holds the model."""
        for size in instance_sizes(self.gpus_per_node):
            if self.holds(size):
                return size
        return self.gpus_per_node * ceil(self.vram_gb / self.memory_gb(self.gpus_per_node))

    @property
    def nodes(self) -> int:
        """Nodes that this takes."""
        return ceil(self.gpus / self.gpus_per_node)

    @property
    def smaller_gpus(self) -> int | None:
        """The next smaller size that the hardware offers; None below one GPU."""
        if self.gpus > self.gpus_per_node:
            return self.gpus - self.gpus_per_node
        below = [size for size in instance_sizes(self.gpus_per_node) if size < self.gpus]
        return below[-1] if below else None

    @property
    def lines(self) -> tuple[str, ...]:
        """Every step with its numbers."""
        count, name = self.gpus, self.gpu_name
        each = self.gpu_memory_gb
        have = self.memory_gb(count)
        size = f"{count} x {name} ({count} x {each:g} GB = {have:g} GB)"
        if count > self.gpus_per_node:
            size += f" = {self.nodes} nodes of {self.gpus_per_node}"
        found = [
            f"bytes per parameter = {self.bits:g} bits / 8 = {self.bits / 8:g}",
            f"weights = {self.parameters_billions:.6g}B parameters x {self.bits / 8:g} = "
            f"{_gb(self.weights_gb)}",
            f"VRAM = {_gb(self.weights_gb)} x {self.kv_allowance:g} (KV allowance) = "
            f"{_gb(self.vram_gb)}",
            f"rounded up to the sizes on offer: {_gb(self.vram_gb)} -> {size}",
        ]
        if self.smaller_gpus is not None:
            found.append(self._why_not(self.smaller_gpus))
        return tuple(found)

    def _why_not(self, gpus: int) -> str:
        have = self.memory_gb(gpus)
        left = have - self.weights_gb
        if left <= 0:
            why = f"does not hold the weights of {_gb(self.weights_gb)}"
        elif left < 0.1 * self.weights_gb:
            why = f"leaves no room for KV cache ({_gb(left)} beside the weights)"
        else:
            want = self.vram_gb - self.weights_gb
            why = f"leaves {_gb(left)} for KV cache of the {_gb(want)} allowed for"
        return f"not {gpus}: {gpus} x {self.gpu_memory_gb:g} GB = {have:g} GB {why}"


def size_by_rule(
    model: ModelSpec,
    gpu: Gpu,
    gpus_per_node: int,
    kv_allowance: float = DEFAULT_KV_ALLOWANCE,
) -> RuleOfThumb:
    """Apply the rule to a model. Raises RefusedError for an allowance below 1 or without end."""
    if not kv_allowance >= 1:
        raise RefusedError(
            f"a KV allowance of {kv_allowance:g} leaves less than the weights themselves. "
            f"Give at least 1; the default is {DEFAULT_KV_ALLOWANCE}."
        )
    found = RuleOfThumb(
        parameters_billions=model.parameters / 1e9,
        bits=model.weight_format.nominal_bits,
        kv_allowance=kv_allowance,
        gpu_name=gpu.name,
        gpu_memory_gb=gpu.memory_gb,
        gpus_per_node=gpus_per_node,
    )
    if not isfinite(found.vram_gb):
        raise RefusedError(
            f"a KV allowance of {kv_allowance:g} asks for {found.vram_gb:g} GB of memory. Give a "
            f"finite one; the default is {DEFAULT_KV_ALLOWANCE}."
        )
    return found
