"""Which applications are a pool, and how the launcher learns it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from front_harness import backend, rendered_config
from front_replica import Replica, free_port

from rayserve_par.serving.front.corrections import corrected_config
from rayserve_par.serving.front.front_settings import FrontSettings
from rayserve_par.serving.front.pools import Pool, pools_of
from rayserve_par.serving.front.serve_config import App, Instance, read_apps
from rayserve_par.serving.front.words import Said, as_text, from_text, said_by
from rayserve_par.settings import Settings


def app(name: str, *ports: int, prefix: str | None = None) -> App:
    instances = tuple(Instance(f"{name}-{port}", "127.0.0.1", port) for port in ports)
    return App(f"http-{name}", prefix or f"/{name}", instances)


A, B, C, ROOT = app("a"), app("b"), app("c"), app("r", prefix="/")
CHAT = ("chat", "gpt")


def said(group: str | None, names: tuple[str, ...] = CHAT) -> Said:
    return Said("some", names, group)


@pytest.mark.parametrize(
    ("known", "pools"),
    [
        ({"http-a": said("H100"), "http-b": said("H200")}, [(A, B)]),
        ({"http-a": said("H100"), "http-b": said("H200"), "http-c": said("L4")}, [(A, B, C)]),
        ({"http-a": said("H100"), "http-b": said("H100"), "http-c": said("L4")}, [(A, C)]),
        ({"http-a": said("H100"), "http-b": said("H100")}, []),
        ({"http-a": said("H100"), "http-b": said(None)}, []),
        ({"http-a": said("H100"), "http-b": said("H200", ("chat",))}, []),
        ({"http-a": said("H100", ()), "http-b": said("H200", ())}, []),
        # Its path says nothing of it.
        ({"http-a": said("H100"), "http-r": said("H200")}, []),
        ({"http-a": said("H100")}, []),
        ({}, []),
    ],
)
def test_the_pools_among_applications(known: dict[str, Said], pools: list[tuple[App, ...]]) -> None:
    assert [one.apps for one in pools_of([A, B, C, ROOT], known)] == pools


A1, B1, C1 = app("a", 1), app("b", 1), app("c", 1)


def by(one: App, group: str | None, names: tuple[str, ...] = CHAT) -> dict[str, Said]:
    return {one.backend: Said(one.instances[0].name, names, group)}


OLD = {"http-c": Said("c-0", CHAT, "L4")}  # by an instance that has gone


@pytest.mark.parametrize(
    ("known", "pools"),
    [
        # It may be of the pool, or make one with an application alone.
        (by(A1, "H100") | by(B1, "H200"), [Pool((A1, B1), (C1,))]),
        (by(A1, "H100") | by(B1, "H200", ("b",)), [Pool((A1,), (C1,)), Pool((B1,), (C1,))]),
        # Of two silent ones the backend of the first has both.
        (by(A1, "H100"), [Pool((A1,), (B1, C1)), Pool((B1,), (C1,))]),
        (by(B1, "H100"), [Pool((A1,), (C1,)), Pool((B1,), (A1, C1))]),
        ({}, [Pool((A1,), (B1, C1)), Pool((B1,), (C1,))]),
        # Who keeps to no node group is in no pool.
        (by(A1, None) | by(B1, None), []),
        # What its former instance said counts until another one answers.
        (by(A1, "H100") | by(B1, "H200") | OLD, [Pool((A1, B1, C1))]),
        (by(A1, "H100") | by(B1, "H200", ("b",)) | OLD, [Pool((A1, C1)), Pool((B1,), (C1,))]),
        (by(A1, "H100") | OLD, [Pool((A1, C1), (B1,)), Pool((B1,), (C1,))]),
        (by(A1, "H100") | by(B1, "H200") | by(C1, "L4"), [Pool((A1, B1, C1))]),
    ],
)
def test_applications_that_have_not_answered_may_join(
    known: dict[str, Said], pools: list[Pool]
) -> None:
    assert list(pools_of([A1, B1, C1, app("r", 1, prefix="/")], known)) == pools


def test_what_was_said_is_kept_as_text() -> None:
    known = {"http-a": said("H100"), "http-b": said(None)}
    assert from_text(as_text(known)) == known


@contextmanager
def answering(status: int, body: bytes, fail_first: int = 0) -> Iterator[tuple[int, list[str]]]:
    """A port, and the paths that were asked there; the first so many are answered 503."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(503 if len(paths) <= fail_first else status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port, paths
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def document(group: str | None) -> bytes:
    return json.dumps({"names": ["gpt", "chat"], "node_group": group, "running": 0}).encode()


def test_an_application_is_asked_once_while_the_one_who_answered_is_there() -> None:
    with answering(200, document("H100")) as (port, paths):
        apps = [app("a", free_port(), port), B]
        known = said_by(apps, {})
        assert known == {"http-a": Said(f"a-{port}", CHAT, "H100")}
        assert paths == ["/a/internal/front"]
        assert said_by(apps, known) == known
        # It has no instance for a while, or none that answers: what was said last counts.
        assert said_by([app("a"), B], known) == known
        assert said_by([app("a", free_port()), B], known) == known
        assert len(paths) == 1
    with answering(200, document("L4")) as (other, _):
        assert said_by([app("a", port, other), B], known) == known
        assert said_by([app("a", other), B], known)["http-a"].node_group == "L4"
        # What is gone is forgotten.
        assert said_by([B, C], known) == {}


def test_an_instance_that_does_not_answer_at_once_is_asked_again() -> None:
    with answering(200, document("H100"), fail_first=2) as (port, paths):
        assert said_by([app("a", port), B], {})["http-a"].node_group == "H100"
        assert len(paths) == 3
    with answering(200, document("H100"), fail_first=1) as (port, _):
        assert said_by([app("a", free_port(), port), B], {}) == {}


def test_one_application_alone_is_not_asked() -> None:
    with answering(200, document("H100")) as (port, paths):
        assert said_by([app("a", port)], {}) == {}
        assert paths == []


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, b"{}"),
        (200, b"not JSON"),
        (200, b"[]"),
        (200, b'{"names": "chat"}'),
        (200, b'{"names": [1]}'),
        (200, b"\xff\xfe"),
    ],
)
def test_an_answer_that_is_none_leaves_it_unknown(status: int, body: bytes) -> None:
    with answering(status, body) as (port, _):
        assert said_by([app("a", port), B], {}) == {}


def test_an_instance_of_another_release_is_in_no_pool() -> None:
    with answering(200, b'{"names": ["chat"]}') as (port, _):
        assert said_by([app("a", port), B], {})["http-a"].node_group is None


@pytest.fixture
def config(tmp_path: Path) -> str:
    replicas = [Replica("x", 7001), Replica("y", 7002)]
    return rendered_config(
        tmp_path, [backend("a", "/a", replicas[:1]), backend("b", "/b", replicas[1:])]
    )


def test_a_pool_is_a_backend_with_the_servers_of_all(config: str, tmp_path: Path) -> None:
    settings = FrontSettings.of(Settings(), tmp_path)
    [pool] = [Pool(read_apps(config))]
    text = corrected_config(config, settings, [pool])
    section = text.split(f"\nbackend {pool.backend}\n", 1)[1].split("\nbackend ", 1)[0]
    assert "server a-x 127.0.0.1:7001 check observe" in section
    assert "server b-y 127.0.0.1:7002 check observe" in section
    assert "use-server %[var(txn.rayserve_server)]" in section
    assert section.count("check backup disabled") == 1
    # Each application alone has one instance and is not asked twice; the pool has two.
    assert "retry-on" not in section
    assert text.count("retry-on conn-failure empty-response\n") == 3
    assert read_apps(text) == read_apps(config)
    assert f'"name"] = "{pool.backend}"' in settings.lua_settings(read_apps(config), [pool])


def test_who_may_join_is_in_maintenance(config: str, tmp_path: Path) -> None:
    settings = FrontSettings.of(Settings(), tmp_path)
    first, second = read_apps(config)
    text = corrected_config(config, settings, [Pool((first,), (second,))])
    section = text.split(f"\nbackend {first.backend}-via", 1)[1].split("\nbackend ", 1)[0]
    servers = [line for line in section.splitlines() if " check observe" in line]
    assert len(servers) == 2
    assert all(line.endswith(" disabled") for line in servers)  # nobody is in it yet
    assert text.count(" disabled\n") == 5  # and Serve's proxy in each of three backends


def test_without_a_pool_nothing_is_added(config: str, tmp_path: Path) -> None:
    text = corrected_config(config, FrontSettings.of(Settings(), tmp_path))
    assert "rayserve_pool" not in text
    assert text.count("\nbackend ") == 4  # default, a, b, the successor
