"""vLLM's server without what each request pays for and nobody sees.

- The counts of HTTP requests by prometheus_fastapi_instrumentator are read at vLLM's /metrics
  alone, which the data port does not answer (`admission/paths.py`); Serve counts requests as well.
- Routes are tried one after another, and those that make the engine work stand far behind. They go
  to the front; each has a fixed path, so none takes what another had.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastapi import FastAPI

_UNREAD = "PrometheusInstrumentatorMiddleware"
_FIRST = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages")


def make_lean(app: FastAPI) -> None:
    """Change `app`, whose middleware vLLM may have built already (its SageMaker bootstrap does)."""
    app.user_middleware = [each for each in app.user_middleware if _name(each.cls) != _UNREAD]
    if app.middleware_stack is not None:
        app.middleware_stack = app.build_middleware_stack()
    routes = app.router.routes
    first = [found for path in _FIRST if (found := _first_match(routes, path)) is not None]
    routes[:] = [*first, *(route for route in routes if route not in first)]


def _name(middleware: Any) -> str:
    return str(getattr(middleware, "__name__", ""))


def _first_match(routes: list[Any], path: str) -> Any | None:
    """The route that a POST to `path` takes, if it is one of exactly that path."""
    from starlette.routing import Match

    scope = {"type": "http", "method": "POST", "path": path, "root_path": "", "headers": []}
    for route in routes:
        if route.matches(dict(scope))[0] is Match.FULL:
            return route if getattr(route, "path", None) == path else None
    return None
