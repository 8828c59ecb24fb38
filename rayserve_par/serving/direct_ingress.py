"""Requests for the engine go past Serve's wrapping of each request.

Serve's replica serves HTTP itself behind HAProxy ("direct ingress"). For each request it works out
a route's name, parses headers for features that nobody here uses, makes contexts, writes an access
log line that a filter drops, and counts: a quarter of a millisecond of the process that also makes
every token's part of a stream. What it counts is needed: requests under way, by which Serve drains
a replica and scales by `target_ongoing_requests`, its limit of them, and its metrics. So
`DirectIngress`, which Serve wraps around its own application (its HTTP callback, set for replicas
in `app.py`), does only that for a POST that makes the engine work, and hands everything else on.

A request for a model that several applications serve (front/pools.py) may come here with the path
of another one, in which HAProxy has tried it first. The front says what that path begins with, and
it is this application's prefix that counts instead.

A replica that Serve has just told to leave is healthy to HAProxy for one more second. It serves on
for `RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S`, so that HAProxy can take it out of its servers
and its successor in, which is one reload; a check between would leave it with neither of them.

It also hands on where Serve has more to do: its access log, tracing or default timeout is on, or a
request would have to wait for room. What Serve's code must look like for this is checked when its
server starts (Ray 2.60, ray/serve/_private/replica.py, `_direct_ingress_asgi`).
"""

from __future__ import annotations

import logging
import os
import time
import uuid
from typing import TYPE_CHECKING, Any

from rayserve_par.serving.admission.paths import uses_engine
from rayserve_par.serving.draining import TOLD_NAME

if TYPE_CHECKING:
    from starlette.middleware import Middleware

    from rayserve_par.serving.admission.refusal import App, Message, Receive, Scope, Send

_CALLBACK = "rayserve_par.serving.direct_ingress.middlewares"
_CALLBACK_VARIABLE = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
_DRAINING_VARIABLE = "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S"
# The HAProxies learn of it within about a second; Ray's 30 s, in which a replica that has nothing
# left to do keeps its GPUs, are for load balancers further away.
_DRAINING_SECONDS = "3"

logger = logging.getLogger("ray.serve")

# What is used of Serve's replica (Ray 2.60).
REPLICA_NAMES = (
    "_deployment_config",
    "_deployment_id",
    "_http_options",
    "_metrics_manager",
    "_route_prefix",
    "_semaphore",
    "_start_request",
    "_user_callable_asgi_app",
)
_REQUEST_ID = b"x-request-id"
# The front's alone: it takes away what clients send of `x-rayserve-par-`.
_SENT_PREFIX = b"x-rayserve-par-prefix"
_CHECK_PATH = "/-/healthz"
_TAKEN_OUT_WITHIN_SECONDS = 1.0
# The name under which Serve's own middleware sends it.
_REQUEST_ID_SENT = b"X-Request-ID"


def direct_ingress_env() -> dict[str, str]:
    """Variables of a replica that turn it on and let it leave sooner; the cluster's own stay."""
    ours = {_CALLBACK_VARIABLE: _CALLBACK, _DRAINING_VARIABLE: _DRAINING_SECONDS}
    return {name: value for name, value in ours.items() if name not in os.environ}


def middlewares() -> list[Middleware]:
    """What Serve asks for when it starts a replica's HTTP server."""
    from starlette.middleware import Middleware

    return [Middleware(DirectIngress)]


class DirectIngress:
    """ASGI around Serve's application of one replica."""

    def __init__(self, app: App) -> None:
        self._serve = app
        self._replica = _replica_behind(app)
        takes = self._replica is not None and _is_short(self._replica)
        self._short = ShortWay(self._replica) if takes else None
        self._last_check: float | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        short = self._short
        if short is not None and short.takes(scope):
            await short(scope, receive, send)
        elif self._still_healthy(scope):
            await _answer_check(send)
        elif self._replica is not None and _moved(scope, self._replica):
            await self(scope, receive, send)
        else:
            await self._serve(scope, receive, send)

    def _still_healthy(self, scope: Scope) -> bool:
        """Whether this check comes within a second of the first after it was told to leave."""
        if scope["type"] != "http" or _route(scope) != _CHECK_PATH:
            return False
        if not getattr(self._replica, TOLD_NAME, False):
            return False
        now = time.monotonic()
        if self._last_check is None:
            self._last_check = now
        return now - self._last_check < _TAKEN_OUT_WITHIN_SECONDS


async def _answer_check(send: Send) -> None:
    headers = [(b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"success"})


def _moved(scope: Scope, replica: Any) -> bool:
    """Whether the path was another application's; it is this one's then."""
    if scope["type"] not in {"http", "websocket"} or not hasattr(replica, "_route_prefix"):
        return False
    found = [value for name, value in scope["headers"] if name == _SENT_PREFIX]
    if not found:
        return False
    scope["headers"] = [one for one in scope["headers"] if one[0] != _SENT_PREFIX]
    sent, prefix, route = found[0].decode("latin-1"), _prefix(replica), _route(scope)
    if sent == prefix or not route.startswith(f"{sent}/"):
        return False
    scope["path"] = scope.get("root_path", "") + prefix + route[len(sent) :]
    return True


class ShortWay:
    """From Serve's server to the application of `replica`, with Serve's counts kept."""

    def __init__(self, replica: Any) -> None:
        from ray.serve._private.common import RequestMetadata, RequestProtocol

        self._replica = replica
        self._protocol = RequestProtocol.HTTP
        # What Serve's counters ask of a request; the same for all.
        self._request = RequestMetadata(
            request_id="",
            internal_request_id="",
            is_streaming=True,
            _request_protocol=RequestProtocol.HTTP,
            is_direct_ingress=True,
        )

    def takes(self, scope: Scope) -> bool:
        """Whether the request makes the engine work and Serve has nothing else to do with it."""
        if scope["type"] != "http" or scope["method"] != "POST":
            return False
        replica = self._replica
        route, prefix = _route(scope), _prefix(replica)
        return (
            route.startswith(f"{prefix}/v1/")
            and uses_engine(route.removeprefix(prefix))
            and not replica._semaphore.locked()
            and not _writes_access_log(replica)
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI; `takes(scope)` holds."""
        started = time.monotonic()
        replica, route = self._replica, _route(scope)
        scope["root_path"] = scope.get("root_path", "") + _prefix(replica)
        request_id = _request_id(scope)
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message.get("headers", ()), (_REQUEST_ID_SENT, request_id)]
                message = {**message, "headers": headers}
            await send(message)

        error: BaseException | None = None
        try:
            async with replica._start_request(self._request):
                await replica._user_callable_asgi_app(scope, receive, send_with_id)
        except BaseException as raised:
            error = raised
            raise
        finally:
            self._record(route, status, 1e3 * (time.monotonic() - started), error)

    def _record(
        self, route: str, status: int, latency_ms: float, error: BaseException | None
    ) -> None:
        replica = self._replica
        metrics = replica._metrics_manager
        metrics.record_request_metrics(
            route=route,
            latency_ms=latency_ms,
            is_error=error is not None,
            exception_type=None if error is None else type(error).__name__,
        )
        if status:
            metrics.record_ingress_request_metrics(
                protocol=self._protocol,
                method="POST",
                route=route,
                app_name=replica._deployment_id.app_name,
                deployment_name=replica._deployment_id.name,
                latency_ms=latency_ms,
                is_error=status >= 400,
                status_code=str(status),
            )


def _route(scope: Scope) -> str:
    """The path without the server's root path, with the application's prefix."""
    path: str = scope["path"]
    return path[len(scope.get("root_path", "")) :]


def _prefix(replica: Any) -> str:
    # Read anew each time: an update of the application may change it.
    return (replica._route_prefix or "").rstrip("/")


def _writes_access_log(replica: Any) -> bool:
    config = replica._deployment_config.logging_config
    if isinstance(config, dict):
        return bool(config.get("enable_access_log", True))
    return bool(getattr(config, "enable_access_log", True))


def _request_id(scope: Scope) -> bytes:
    """The request's id, given to it where it has none; vLLM makes its own ids of it."""
    for name, value in scope["headers"]:
        if name == _REQUEST_ID:
            found: bytes = value
            return found
    made = uuid.uuid4().hex.encode()
    scope["headers"] = [*scope["headers"], (_REQUEST_ID, made)]
    return made


def _replica_behind(app: Any) -> Any | None:
    """Serve's replica whose application `app` wraps."""
    while app is not None and not hasattr(app, "__self__"):
        app = getattr(app, "_app", None) or getattr(app, "app", None)
    if app is None:
        logger.warning("Serve's replica was not found: requests go through its whole wrapping.")
        return None
    return app.__self__


def _is_short(replica: Any) -> bool:
    reason = _reason_for_serve(replica)
    if reason is None:
        logger.info("Requests for the engine go past Serve's wrapping.")
        return True
    logger.info("Requests go through Serve's whole wrapping: %s.", reason)
    return False


def _reason_for_serve(replica: Any) -> str | None:
    from ray.serve._private.tracing_utils import is_tracing_enabled

    missing = [name for name in REPLICA_NAMES if not hasattr(replica, name)]
    if missing:
        return f"this release of Ray has no Replica.{missing[0]}"
    if is_tracing_enabled():
        return "tracing is on"
    options = replica._http_options
    if options is not None and options.request_timeout_s is not None:
        return "http_options has request_timeout_s"
    return None
