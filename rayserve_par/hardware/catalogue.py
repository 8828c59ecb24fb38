"""The GPUs that are known by name.

Marketed memory is from the makers' data sheets; usable GiB is what torch reports as the total
capacity (`torch.cuda.mem_get_info`), the lower figure where several are seen in the field.
`logical-cpu` is a process on a CPU that Ray counts as a GPU; its memory is a share of the host's
that the user grants, not a property of hardware.
"""

import re
from difflib import get_close_matches

from rayserve_par.errors import RefusedError
from rayserve_par.hardware.gpu import Gpu

_TORCH = "usable as torch reports total capacity"

GPUS: tuple[Gpu, ...] = (
    Gpu("A10G", 24, 22.03, False, 4, 4, f"AWS G5 instances (g5.12xlarge: 4); {_TORCH}"),
    Gpu("L4", 24, 22.03, False, 4, 4, f"NVIDIA L4 data sheet; {_TORCH}"),
    Gpu("L40S", 48, 44.39, False, 4, 4, f"NVIDIA L40S data sheet; {_TORCH}"),
    Gpu("A100-40", 40, 39.39, True, 8, 8, f"NVIDIA A100 data sheet (SXM4); {_TORCH}"),
    Gpu("A100-80", 80, 79.14, True, 8, 8, f"NVIDIA A100 data sheet (SXM4); {_TORCH}"),
    Gpu("H100", 80, 79.18, True, 8, 8, f"NVIDIA H100 data sheet (SXM5); {_TORCH}"),
    Gpu("H100-NVL", 94, 93.0, True, 8, 2, f"NVIDIA H100 NVL data sheet (bridged pairs); {_TORCH}"),
    Gpu("H200", 141, 139.72, True, 8, 8, f"NVIDIA H200 data sheet (SXM); {_TORCH}"),
    Gpu("B200", 180, 178.35, True, 8, 8, f"NVIDIA HGX B200 (1,440 GB per 8); {_TORCH}"),
    Gpu("B300", 288, 267.69, True, 8, 8, f"NVIDIA DGX B300 (2.3 TB per 8); {_TORCH}"),
    Gpu("GB200", 186, 184.31, True, 4, 72, f"NVIDIA GB200 NVL72 (13.4 TB per 72); {_TORCH}"),
    Gpu("MI300X", 192, 191.69, True, 8, 8, f"AMD Instinct MI300X data sheet; {_TORCH}", "rocm"),
    Gpu(
        "logical-cpu",
        4,
        3.72,
        False,
        2,
        2,
        "a CPU process that Ray counts as a GPU; 4 GB of host memory granted to each",
        "cpu",
    ),
)

# What Ray calls them (`ray.util.accelerators`, the `accelerator_type` resource) and drivers print.
_ALIASES = {
    "a100-40g": "A100-40",
    "a100-80g": "A100-80",
    "a100-sxm4-40gb": "A100-40",
    "a100-sxm4-80gb": "A100-80",
    "a100-pcie-40gb": "A100-40",
    "h100-80gb-hbm3": "H100",
    "h100-sxm": "H100",
    "h100-sxm5-80gb": "H100",
    "h200-sxm": "H200",
    "amd-instinct-mi300x-oam": "MI300X",
    "amd-instinct-mi300x-hf": "MI300X",
    "amd-instinct-mi300x": "MI300X",
    "instinct-mi300x": "MI300X",
    "cpu": "logical-cpu",
}


def gpu_names() -> tuple[str, ...]:
    """The names in the catalogue."""
    return tuple(gpu.name for gpu in GPUS)


def gpu_by_name(name: str) -> Gpu:
    """The GPU of this name, in any case; Ray's and drivers' names are understood too.

    Raises RefusedError with the nearest names when it is not known, and when "A100" leaves open
    whether 40 or 80 GB are meant.
    """
    key = re.sub(r"[\s_]+", "-", name.strip().lower()).removeprefix("nvidia-")
    by_key = {gpu.name.lower(): gpu for gpu in GPUS}
    by_key |= {alias: by_key[target.lower()] for alias, target in _ALIASES.items()}
    if key in by_key:
        return by_key[key]
    if key in ("a100", "a100-sxm4"):
        raise RefusedError(
            f"GPU {name!r} is made with 40 GB and with 80 GB. Write A100-40 or A100-80."
        )
    near = get_close_matches(key, by_key, n=3, cutoff=0.4)
    nearest = dict.fromkeys(by_key[match].name for match in near)
    hint = f"Nearest: {', '.join(nearest)}. " if nearest else ""
    raise RefusedError(f"GPU {name!r} is not known. {hint}Known: {', '.join(gpu_names())}.")
