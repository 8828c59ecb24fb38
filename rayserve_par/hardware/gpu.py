"""One kind of GPU: memory, speeds, links and price.

`memory_gb` is decimal gigabytes as marketed (the rule of thumb uses it); `usable_gib` is what
the driver offers a process, in GiB, before anything is loaded (exact sizing uses it). Every other
quantity is in SI units: bytes per second, FLOP per second, US dollars per hour.

Peaks are dense (without 2:4 sparsity, which no checkpoint that we plan for uses) and are what the
data sheet says, not what a kernel reaches: one multiply-add is two FLOP. Integer peaks are left
out: they differ from the float peak of their width only where that one is missing (A100, A10G).

Link and NIC bandwidth are per GPU and per direction: makers quote NVLink, xGMI and PCIe as the sum
of both, so their figure is halved. Behind an NVLink switch any two GPUs have all of it; MI300X and
its successors spread it over seven links, one to each other GPU of the node.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from rayserve_par.errors import RefusedError

GIB = 1024**3


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A GPU model. `gpus_per_node` is the usual node.

    `nvlink_domain_gpus` counts the GPUs joined by fast links (NVLink, xGMI); where there are none
    (`nvlink` false) it counts those that share a node's PCIe, and `link_bytes_per_second` is
    PCIe's. `fp8_flops` and `fp4_flops` are None where the hardware has no such units,
    `price_per_hour_usd` where nobody lists a price. `source` says in a line where the entry is
    from, `sources` (pairs of field and source) where each value is.
    """

    name: str
    generation: str
    compute_capability: str
    memory_gb: float
    usable_gib: float
    hbm_bytes_per_second: float
    bf16_flops: float
    fp8_flops: float | None
    fp4_flops: float | None
    nvlink: bool
    nvlink_domain_gpus: int
    link_bytes_per_second: float
    gpus_per_node: int
    nic_bytes_per_second: float
    price_per_hour_usd: float | None
    source: str
    engine_backend: Literal["cuda", "rocm", "cpu"] = "cuda"
    sources: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if self.memory_gb <= 0 or self.usable_gib <= 0:
            raise RefusedError(
                f"GPU {self.name}: memory of {self.memory_gb:g} GB ({self.usable_gib:g} GiB usable)"
                " must be above 0."
            )
        if self.gpus_per_node < 1 or self.nvlink_domain_gpus < 1:
            raise RefusedError(
                f"GPU {self.name}: {self.gpus_per_node} GPUs per node and "
                f"{self.nvlink_domain_gpus} per NVLink domain must be at least 1."
            )
        for name, value in self._rates():
            if value <= 0:
                raise RefusedError(f"GPU {self.name}: {name} of {value:g} must be above 0.")
        if self.price_per_hour_usd is not None and self.price_per_hour_usd < 0:
            raise RefusedError(
                f"GPU {self.name}: a price of {self.price_per_hour_usd:g} $/h is below 0."
            )

    def _rates(self) -> Iterator[tuple[str, float]]:
        yield "hbm_bytes_per_second", self.hbm_bytes_per_second
        yield "link_bytes_per_second", self.link_bytes_per_second
        yield "nic_bytes_per_second", self.nic_bytes_per_second
        yield "bf16_flops", self.bf16_flops
        if self.fp8_flops is not None:
            yield "fp8_flops", self.fp8_flops
        if self.fp4_flops is not None:
            yield "fp4_flops", self.fp4_flops

    @property
    def usable_bytes(self) -> float:
        """Bytes that the driver offers a process."""
        return self.usable_gib * GIB

    def peak_flops(self, compute_bits: float) -> float:
        """Dense peak of a matrix product whose operands have `compute_bits` bits, in FLOP/s.

        The narrowest units at least that wide: a GPU without FP4 computes 4-bit products in FP8,
        one without FP8 in BF16. 17 to 32 bits are TF32, which runs at half of BF16 on every GPU of
        the catalogue that has it (A100 156 of 312, H100 494.7 of 989.4, MI300X 653.7 of 1,307.4
        TFLOP/s); MI355X emulates TF32 and is slower than this says.
        """
        if not 0 < compute_bits <= 32:
            raise RefusedError(
                f"matrix products of {compute_bits:g} bits are not known: write 4, 8, 16 or 32."
            )
        for bits, flops in ((4, self.fp4_flops), (8, self.fp8_flops), (16, self.bf16_flops)):
            if compute_bits <= bits and flops is not None:
                return flops
        return self.bf16_flops / 2

    def source_of(self, field_name: str) -> str:
        """Where the value of this field is from; the entry's source where none is named."""
        return dict(self.sources).get(field_name, self.source)
