"""Which requests go past Serve's wrapping, and what Serve still knows of them."""

from __future__ import annotations

import asyncio
import inspect
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from rayserve_par.serving import direct_ingress
from rayserve_par.serving.direct_ingress import REPLICA_NAMES, DirectIngress, direct_ingress_env

CHAT = "/v1/chat/completions"


class Replica:
    """What is used of Serve's replica, and what it was told."""

    def __init__(self, prefix: str = "/") -> None:
        self._route_prefix = prefix
        self._deployment_config = SimpleNamespace(logging_config={"enable_access_log": False})
        self._deployment_id = SimpleNamespace(app_name="chat", name="instance")
        self._http_options = SimpleNamespace(request_timeout_s=None)
        self._semaphore = asyncio.Semaphore(2)
        self._metrics_manager = self
        self.ongoing = 0
        self.most_ongoing = 0
        self.requests: list[dict[str, Any]] = []
        self.ingress_requests: list[dict[str, Any]] = []
        self.wrapped: list[str] = []
        self.scopes: list[dict[str, Any]] = []
        self.error: BaseException | None = None

    @asynccontextmanager
    async def _start_request(self, request: Any) -> AsyncIterator[None]:
        assert request.is_direct_ingress
        async with self._semaphore:
            self.ongoing += 1
            self.most_ongoing = max(self.most_ongoing, self.ongoing)
            try:
                yield
            finally:
                self.ongoing -= 1

    def record_request_metrics(self, **told: Any) -> None:
        self.requests.append(told)

    def record_ingress_request_metrics(self, **told: Any) -> None:
        self.ingress_requests.append(told)

    async def _user_callable_asgi_app(self, scope: Any, _receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        if self.error is not None:
            raise self.error
        await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]})
        await send({"type": "http.response.body", "body": b"x"})

    async def serve(self, scope: Any, _receive: Any, _send: Any) -> None:
        self.wrapped.append(scope.get("path", scope["type"]))


class Wrapper:
    """In place of Serve's own middleware between."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._app(scope, receive, send)


def _scope(path: str = CHAT, method: str = "POST", **further: Any) -> dict[str, Any]:
    return {"type": "http", "method": method, "path": path, "headers": [], **further}


def _ask(replica: Replica, scope: dict[str, Any]) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"{}"}

    asyncio.run(DirectIngress(Wrapper(replica.serve))(scope, receive, send))  # type: ignore[arg-type]
    return sent


def test_a_request_for_the_engine_goes_past_and_is_counted() -> None:
    replica = Replica()
    sent = _ask(replica, _scope())
    assert replica.wrapped == []
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    ((_, given),) = replica.scopes[0]["headers"]
    assert sent[0]["headers"] == [(b"a", b"b"), (b"X-Request-ID", given)]
    assert (replica.most_ongoing, replica.ongoing) == (1, 0)
    (told,) = replica.requests
    assert (told["route"], told["is_error"], told["exception_type"]) == (CHAT, False, None)
    (told,) = replica.ingress_requests
    assert told["status_code"] == "200"
    assert (told["app_name"], told["deployment_name"]) == ("chat", "instance")
    assert told["is_error"] is False


def test_an_id_that_the_client_gave_stays() -> None:
    replica = Replica()
    headers = [(b"x-request-id", b"mine")]
    sent = _ask(replica, _scope(headers=headers))
    assert replica.scopes[0]["headers"] == headers
    assert (b"X-Request-ID", b"mine") in sent[0]["headers"]


@pytest.mark.parametrize(
    ("prefix", "path", "root_path"),
    [("/", CHAT, ""), ("/chat", f"/chat{CHAT}", ""), ("/chat", f"/proxy/chat{CHAT}", "/proxy")],
)
def test_the_application_is_mounted_at_its_prefix(prefix: str, path: str, root_path: str) -> None:
    replica = Replica(prefix)
    _ask(replica, _scope(path, root_path=root_path))
    scope = replica.scopes[0]
    assert scope["path"].removeprefix(scope["root_path"]) == CHAT
    assert replica.requests[0]["route"] == path.removeprefix(root_path)


def test_one_that_is_told_to_leave_is_healthy_until_haproxy_has_taken_it_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(direct_ingress.time, "monotonic", lambda: now)
    replica = Replica()
    told: Any = replica
    app = DirectIngress(Wrapper(replica.serve))  # type: ignore[arg-type]

    def check() -> list[Any]:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(app(_scope("/-/healthz", "GET"), None, send))  # type: ignore[arg-type]
        return [one.get("status", one.get("body")) for one in sent]

    told._shutting_down = False
    assert check() == []
    now, told._shutting_down = 200.0, True
    assert check() == [200, b"success"]
    now += 0.9
    assert check() == [200, b"success"]
    now += 0.2
    assert check() == []
    # The first and the last one are Serve's to answer.
    assert replica.wrapped == ["/-/healthz"] * 2


@pytest.mark.parametrize(
    "scope",
    [
        _scope(method="GET"),
        _scope("/v1/models", method="GET"),
        _scope("/tokenize"),
        _scope("/-/healthz"),
        _scope("/v1/messages/count_tokens"),
        {"type": "websocket", "path": "/v1/realtime", "headers": []},
        {"type": "lifespan"},
    ],
)
def test_everything_else_is_serves(scope: dict[str, Any]) -> None:
    replica = Replica()
    _ask(replica, scope)
    assert len(replica.wrapped) == 1
    assert replica.requests == []


SENT = b"x-rayserve-par-prefix"


@pytest.mark.parametrize(
    ("own", "sent", "path", "found"),
    [
        ("/b", "/a", f"/a{CHAT}", f"/b{CHAT}"),
        # One prefix is the beginning of the other.
        ("/a/b", "/a", f"/a{CHAT}", f"/a/b{CHAT}"),
        ("/a", "/a/b", f"/a/b{CHAT}", f"/a{CHAT}"),
        ("/", "/a", f"/a{CHAT}", CHAT),
    ],
)
def test_a_path_of_another_application_of_the_pool_is_this_one_s(
    own: str, sent: str, path: str, found: str
) -> None:
    replica = Replica(own)
    scope = _scope(f"/proxy{path}", headers=[(SENT, sent.encode())], root_path="/proxy")
    _ask(replica, scope)
    assert replica.wrapped == []
    assert replica.scopes[0]["path"] == f"/proxy{found}"
    assert replica.scopes[0]["path"].removeprefix(replica.scopes[0]["root_path"]) == CHAT
    assert replica.requests[0]["route"] == found


@pytest.mark.parametrize(
    ("path", "method", "found"),
    [("/a/tokenize", "POST", "/b/tokenize"), ("/a/v1/models", "GET", "/b/v1/models")],
)
def test_what_is_serves_gets_this_application_s_path_too(
    path: str, method: str, found: str
) -> None:
    replica = Replica("/b")
    _ask(replica, _scope(path, method, headers=[(SENT, b"/a")]))
    replica._http_options.request_timeout_s = 9.0
    _ask(replica, _scope(path, method, headers=[(SENT, b"/a")]))
    assert replica.wrapped == [found, found]


@pytest.mark.parametrize(("sent", "path"), [("/b", "/b/x"), ("/a", "/c/v1/x"), ("/a", "/ab/v1/x")])
def test_a_path_that_is_not_the_sent_application_s_stays(sent: str, path: str) -> None:
    replica = Replica("/b")
    _ask(replica, _scope(path, headers=[(SENT, sent.encode())]))
    assert replica.wrapped == [path]


@pytest.mark.parametrize("what", ["access log", "room", "timeout", "names", "prefix"])
def test_where_serve_has_more_to_do_it_does_it(what: str) -> None:
    replica = Replica("/chat" if what == "prefix" else "/")
    if what == "access log":
        replica._deployment_config.logging_config = {}
    elif what == "room":
        replica._semaphore = asyncio.Semaphore(0)
    elif what == "timeout":
        replica._http_options.request_timeout_s = 9.0
    elif what == "names":
        del replica._deployment_id
    _ask(replica, _scope())
    assert replica.wrapped == [CHAT]


@pytest.mark.parametrize("error", [ValueError("x"), asyncio.CancelledError()])
def test_a_failure_is_counted_and_goes_on(error: BaseException) -> None:
    replica = Replica()
    replica.error = error
    with pytest.raises(type(error)):
        _ask(replica, _scope())
    assert replica.ongoing == 0
    (told,) = replica.requests
    assert told["is_error"] is True
    assert told["exception_type"] == type(error).__name__
    assert replica.ingress_requests == []


def test_ray_has_the_names_that_are_used() -> None:
    from ray.serve._private.replica import Replica as ServeReplica
    from ray.serve._private.replica import ReplicaMetricsManager
    from ray.serve._private.utils import import_attr

    source = inspect.getsource(ServeReplica)
    for name in REPLICA_NAMES:
        assert hasattr(ServeReplica, name) or f"self.{name}" in source, name
    assert ReplicaMetricsManager.record_request_metrics
    assert ReplicaMetricsManager.record_ingress_request_metrics
    path = direct_ingress_env()["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"]
    assert import_attr(path) is direct_ingress.middlewares


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH", "their.own:callback"),
        ("RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S", "30"),
    ],
)
def test_what_the_cluster_sets_stays(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(name, raising=False)
    assert name in direct_ingress_env()
    monkeypatch.setenv(name, value)
    assert name not in direct_ingress_env()


def test_serve_reads_how_long_a_replica_listens_after_it_was_told_to_leave() -> None:
    """In the replica's process, from its environment."""
    names = direct_ingress_env()
    words = [sys.executable, "-c", "import ray.serve._private.replica as r;"]
    words[-1] += "print(r.RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S)"
    done = subprocess.run(
        words, env={**os.environ, **names}, capture_output=True, text=True, check=True
    )
    assert float(done.stdout) == 3.0
