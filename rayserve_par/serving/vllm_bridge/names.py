"""vLLM names that moved between the releases 0.25 and 0.32, found where they are now."""

from __future__ import annotations

import importlib
from typing import Any

from rayserve_par.errors import RefusedError

# Newer homes come first.
HOMES: dict[str, tuple[str, ...]] = {
    "make_arg_parser": (
        "vllm.entrypoints.launchers.cli_args",
        "vllm.entrypoints.openai.cli_args",
    ),
    "validate_parsed_serve_args": (
        "vllm.entrypoints.launchers.cli_args",
        "vllm.entrypoints.openai.cli_args",
    ),
    "build_app": (
        "vllm.entrypoints.launchers.app",
        "vllm.entrypoints.openai.api_server",
    ),
    "init_app_state": (
        "vllm.entrypoints.launchers.api_server.app_state",
        "vllm.entrypoints.openai.api_server",
    ),
}


def find_vllm_name(name: str) -> Any:
    """Import `name` from whichever vLLM module of this release holds it.

    Raises:
        RefusedError: none of the known homes has it; the message lists them.
    """
    for home in HOMES[name]:
        try:
            module = importlib.import_module(home)
        except ModuleNotFoundError:
            continue
        if hasattr(module, name):
            return getattr(module, name)
    raise RefusedError(
        f"This vLLM has no {name} in any of the modules where the known releases keep it: "
        f"{', '.join(HOMES[name])}. rayserve-par works with vLLM 0.25 to 0.32."
    )
