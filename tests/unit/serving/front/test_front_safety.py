"""What the front refuses: paths, headers, sizes, slow clients, other hosts."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

import pytest
from front_harness import Front

MAX_BODY_BYTES = 100_000


@pytest.fixture(scope="module")
def front(make_front: Callable[..., Front]) -> Front:
    return make_front(
        {("m", "/"): ["a"]},
        RAYSERVE_PAR_FRONT_MAX_BODY_BYTES=str(MAX_BODY_BYTES),
        RAYSERVE_PAR_FRONT_HEADER_SECONDS="1",
        RAYSERVE_PAR_FRONT_BODY_SECONDS="1",
    )


def exchange(front: Front, raw: bytes, seconds: float = 15) -> tuple[str, bytes]:
    """Send bytes, read until the connection ends."""
    with socket.create_connection(("127.0.0.1", front.port), timeout=seconds) as client:
        client.sendall(raw)
        received = b""
        while piece := client.recv(65536):
            received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    return head.decode(), body


@pytest.mark.parametrize(
    "path",
    ["/v1/chat/completions", "/v1/x/y?z=1", "/health", "/docs", "/docs/oauth2-redirect", "/score"],
)
def test_public_paths_pass(front: Front, path: str) -> None:
    assert front.request("POST", path, {}).json["target"] == path


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/metrics",
        "/internal/front",
        "/%69nternal/front",
        "/v1/../internal/front",
        "/v1/%2e%2e/metrics",
        "/load",
        "/reset_prefix_cache",
        "/sleep",
        "/collective_rpc",
        "/start_profile",
        "/v1/load_lora_adapter",
        "/v1/%6coad_lora_adapter",
        "/healthz",
        "/health/",
        "/V1/models",
    ],
)
def test_other_paths_are_404_in_openai_s_form(front: Front, path: str) -> None:
    (replica,) = front.replicas
    before = len(replica.requests)
    reply = front.request("POST", path, {})
    assert (reply.status, reply.error["code"]) == (404, "not_found")
    assert len(replica.requests) == before


def test_serve_s_own_endpoints_stay(front: Front) -> None:
    assert front.get("/-/healthz").status == 200
    assert front.get("/-/routes").json == {"/": "m"}


def test_headers_of_the_front_come_from_the_front_alone(front: Front) -> None:
    forged = {"X-RayServe-Par-Front": "0", "x-rayserve-par-priority": "9", "x-other": "kept"}
    front.chat({}, **forged)
    headers = front.replicas[0].requests[-1].headers
    assert {name: text for name, text in headers.items() if "rayserve" in name} == {
        "x-rayserve-par-front": "1"
    }
    assert headers["x-other"] == "kept"


# uvicorn would believe it, and admission would take a stranger for this machine.
def test_the_client_s_address_is_not_the_client_s_to_say(front: Front) -> None:
    front.chat({}, **{"X-Forwarded-For": "127.0.0.1"})
    assert "x-forwarded-for" not in front.replicas[0].requests[-1].headers


def test_serve_leaves_clients_that_leave_to_the_application(front: Front) -> None:
    front.chat({}, **{"x-request-disconnect-disabled": "?0"})
    assert front.replicas[0].requests[-1].headers["x-request-disconnect-disabled"] == "?1"


@pytest.mark.parametrize(
    "name",
    [
        "X-Request-Id",
        "x-request-timeout-seconds",
        "x-session-id",
        "serve_multiplexed_model_id",
        "traceparent",
    ],
)
def test_headers_that_serve_cannot_decode_do_not_reach_it(front: Front, name: str) -> None:
    replica = front.replicas[0]
    for raw, kept in [(b"abc-1", True), (b"a\xff", False), (b"\x80", False), (b"\xc3\xa9", False)]:
        line = name.encode() + b": " + raw
        head, _ = exchange(
            front, b"GET /version HTTP/1.1\r\nhost: x\r\nconnection: close\r\n" + line + b"\r\n\r\n"
        )
        assert head.startswith("HTTP/1.1 200")
        assert (name.lower() in replica.requests[-1].headers) == kept


def test_a_body_above_the_limit_is_413(front: Front) -> None:
    reply = front.request("POST", "/v1/completions", b"x" * (MAX_BODY_BYTES + 1))
    assert reply.status == 413
    assert str(MAX_BODY_BYTES) in reply.error["message"]
    assert front.request("POST", "/v1/completions", b"x" * MAX_BODY_BYTES).status == 200


def test_a_body_that_does_not_arrive_is_408(front: Front) -> None:
    (replica,) = front.replicas
    before = len(replica.requests)
    start = time.monotonic()
    head, body = exchange(
        front, b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\n{"
    )
    assert head.startswith("HTTP/1.1 408")
    assert b'"code": "request_timeout"' in body
    assert time.monotonic() - start < 3
    assert len(replica.requests) == before


def test_headers_that_do_not_end_are_408(front: Front) -> None:
    """HAProxy answers what never became a request before any of our files is looked at."""
    start = time.monotonic()
    head, _ = exchange(front, b"GET /v1/models HTTP/1.1\r\nhost: x\r\n")
    assert head.startswith("HTTP/1.1 408")
    assert time.monotonic() - start < 3


def test_what_is_no_http_is_400(front: Front) -> None:
    head, _ = exchange(front, b"\x00\xff binary\r\n\r\n")
    assert head.startswith("HTTP/1.1 400")


@pytest.mark.parametrize("port", ["frontend_port", "metrics_port", "stats_port"])
def test_only_loopback_is_bound_unless_told_otherwise(front: Front, port: str) -> None:
    """The configuration asks for every interface, as Serve's users do."""
    assert listeners(int(getattr(front.api.cfg, port))) == {"0100007F"}


def test_a_front_host_is_bound_and_stats_stay_on_loopback(make_front: Callable[..., Front]) -> None:
    front = make_front({("m", "/"): ["a"]}, RAYSERVE_PAR_FRONT_HOST="0.0.0.0")
    assert listeners(front.api.cfg.frontend_port) == {"00000000"}
    assert listeners(front.api.cfg.metrics_port) == {"00000000"}
    assert listeners(front.api.cfg.stats_port) == {"0100007F"}
    # What Serve's proxy actor asks when it checks its HAProxy.
    assert front.loop.run(front.api.is_running())


def listeners(port: int) -> set[str]:
    """Addresses (hexadecimal, as in /proc/net/tcp) that listen on a port."""
    with open("/proc/net/tcp", encoding="utf-8") as table:
        rows = [line.split() for line in table][1:]
    return {
        row[1].split(":")[0] for row in rows if row[3] == "0A" and row[1].endswith(f":{port:04X}")
    }
