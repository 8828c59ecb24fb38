"""Servers that Serve forgets for the time of a rebuild stay; those that it replaces do not."""

from __future__ import annotations

import pytest

from rayserve_par.serving.front.kept_servers import keep_servers, servers_of

A, B, C = (f"    server {name} 127.0.0.1:3000{name} check observe layer4" for name in "123")
BACKUP = "    server proxy 127.0.0.1:8500 check backup"


def config(*servers: str, other: tuple[str, ...] = ()) -> str:
    lines = ["frontend http_frontend", "    bind :8000"]
    for name, own in (("http-app", servers), ("http-other", other)):
        lines += [f"backend {name}", "    http-reuse always", "", "    # Servers", *own, BACKUP]
    return "\n".join([*lines, "listen stats", "  bind :9"]) + "\n"


LAST = {"http-app": (A, B), "http-other": (C,)}


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (config(A, B, other=(C,)), config(A, B, other=(C,))),
        (config(), config(A, B, other=(C,))),
        (config(A), config(A, other=(C,))),
        (config(C, other=(A,)), config(C, other=(A,))),
    ],
)
def test_only_a_backend_that_lost_all_keeps_its_last(now: str, expected: str) -> None:
    kept = keep_servers(now, LAST)
    assert kept == expected
    assert keep_servers(kept, LAST) == kept


def test_what_is_kept_is_what_the_next_reload_keeps() -> None:
    first = servers_of(config(A, B))
    assert first == {"http-app": (A, B), "http-other": ()}
    assert servers_of(keep_servers(config(), first)) == first


def test_a_backend_that_never_had_a_server_has_none() -> None:
    assert keep_servers(config(), {}) == config()
    assert keep_servers("backend http-new\n    mode http\n", LAST) == (
        "backend http-new\n    mode http\n"
    )
