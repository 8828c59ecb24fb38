"""Entry point `vllm.platform_plugins`: offers the CPU-rank platform when it is asked for.

vLLM calls `register` in every process that imports it, so this module imports nothing heavy.
"""

from __future__ import annotations

from rayserve_par.settings import load_settings


def register() -> str | None:
    """Name the platform class where `RAYSERVE_PAR_CPU_RANKS` is true, else nothing."""
    if not load_settings().cpu_ranks:
        return None
    return "rayserve_par.serving.vllm_bridge.cpu_platform.LogicalCpuPlatform"
