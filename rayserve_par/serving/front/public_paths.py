"""Which paths the front lets through: an allow list, below the root and below each app's prefix.

Everything else is 404, among it /metrics, /internal, and what changes or stops an engine. LoRA
loading lies under /v1 and is taken out again. Paths are compared after decoding, so that
`/v1/%6coad_lora_adapter` is what it says; steps (`/../`) have no business in an API path.
Source of the paths: vllm/entrypoints/**/api_router.py, release 0.32.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_EXACT = (
    "health",
    "ping",
    "version",
    "tokenize",
    "detokenize",
    "pooling",
    "classify",
    "score",
    "rerank",
    "v2/rerank",
    "openapi.json",
    r"docs(?:/.*)?",
)
_ADMIN = r"v1/(?:un)?load_lora_adapter"
_STEP = r"(?:^|/)\.\.?(?:/|$)"


def _under(prefixes: Sequence[str], paths: str) -> str:
    prefix = "|".join(re.escape(prefix) for prefix in prefixes if prefix)
    return f"^(?:{prefix})?/{paths}" if prefix else f"^/{paths}"


def public_pattern(prefixes: Sequence[str]) -> str:
    """Regular expression of the paths that may pass."""
    return _under(prefixes, f"(?:v1/.*|{'|'.join(_EXACT)})$")


def forbidden_pattern(prefixes: Sequence[str]) -> str:
    """Regular expression of what `public_pattern` lets through and must not."""
    return f"{_under(prefixes, _ADMIN)}(?:/|$)|{_STEP}"
