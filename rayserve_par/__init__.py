"""rayserve_par: topology-aware serving of large language models on Ray.

`import_path: rayserve_par:build_app` is what a Ray Serve config names. Importing this package
imports neither Ray nor vLLM nor torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rayserve_par.serving.app import build_app

__version__ = "0.1.0"
__all__ = ["__version__", "build_app"]


def __getattr__(name: str) -> Any:
    if name == "build_app":
        from rayserve_par.serving.app import build_app

        return build_app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
