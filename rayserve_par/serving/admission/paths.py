"""Which paths of an instance the data port answers, and what each may cost.

Everything that is not listed is 404 here, whatever the application has: metrics, profiling, sleep,
weights, adapters and vLLM's development endpoints (vllm/entrypoints/serve/**/api_router.py).
"""

from __future__ import annotations

STATUS_PATH = "/internal/front"
# Serve's and load balancers' own questions; they reach no engine's work.
FREE_PATHS = frozenset({"/health", "/ping", "/-/healthz", "/-/routes"})

_PUBLIC = frozenset(
    {
        "/version",
        "/tokenize",
        "/detokenize",
        "/pooling",
        "/classify",
        "/score",
        "/rerank",
        "/v2/rerank",
        "/openapi.json",
        "/docs",
        "/docs/oauth2-redirect",
    }
)
_ADMIN = frozenset({"/v1/load_lora_adapter", "/v1/unload_lora_adapter"})
_NO_ENGINE = frozenset({"/tokenize", "/detokenize", "/v1/messages/count_tokens"})


def is_public(path: str) -> bool:
    """Whether clients may use `path` at all."""
    if path in _PUBLIC:
        return True
    # Routes are regular expressions, whose end also matches before a last line feed.
    return path.startswith("/v1/") and path not in _ADMIN and path.isprintable()


def uses_engine(path: str) -> bool:
    """Whether a POST to `path` makes the engine work."""
    return path not in _NO_ENGINE and not path.endswith(("/render", "/derender", "/cancel"))


def takes_form(path: str) -> bool:
    """Whether a POST to `path` carries a form with a file."""
    return path.startswith("/v1/audio/")


def takes_json(path: str) -> bool:
    """Whether a POST to `path` must carry a JSON object."""
    return not takes_form(path) and not path.endswith("/cancel")
