"""One kind of GPU: its memory, and how many of them fast links join.

`memory_gb` is decimal gigabytes as marketed (the rule of thumb uses it); `usable_gib` is what
the driver offers a process, in GiB, before anything is loaded (exact sizing uses it).
"""

from dataclasses import dataclass
from typing import Literal

from rayserve_par.errors import RefusedError

GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU model. `gpus_per_node` is the usual node; `source` says where the numbers are from.

    `nvlink_domain_gpus` counts the GPUs joined by fast links (NVLink, xGMI); where there are none
    (`nvlink` false) it counts those that share a node's PCIe.
    """

    name: str
    memory_gb: float
    usable_gib: float
    nvlink: bool
    gpus_per_node: int
    nvlink_domain_gpus: int
    source: str
    engine_backend: Literal["cuda", "rocm", "cpu"] = "cuda"

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

    @property
    def usable_bytes(self) -> float:
        """Bytes that the driver offers a process."""
        return self.usable_gib * GIB
