"""The corrections to the configuration that Ray's own template makes."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from front_harness import backend, rendered_config, serve_api
from front_replica import Replica
from ray.serve.config import gRPCOptions

from rayserve_par.errors import RefusedError
from rayserve_par.serving.front.corrections import corrected_config
from rayserve_par.serving.front.error_bodies import (
    MALFORMED,
    TOO_SLOW,
    UNAVAILABLE,
    ErrorAnswer,
    too_large,
)
from rayserve_par.serving.front.front_settings import FrontSettings
from rayserve_par.serving.front.lua_table import lua_literal
from rayserve_par.serving.front.serve_config import Instance, read_apps
from rayserve_par.settings import Settings


@pytest.fixture
def config(tmp_path: Path) -> str:
    return rendered_config(
        tmp_path,
        [
            backend("Qwen_2.5", "/q/2.5", [Replica("a", 7001)]),
            backend("llama", "/", [Replica("a", 7002), Replica("b", 7003)]),
        ],
    )


def settings(folder: Path, front_host: str | None = None) -> FrontSettings:
    return FrontSettings.of(Settings(front_host=front_host), folder)


def test_the_apps_are_read_from_serve_s_text(config: str) -> None:
    qwen, llama = read_apps(config)
    assert (qwen.backend, qwen.name, qwen.path_prefix) == ("http-Qwen_2.5", "Qwen_2.5", "/q/2.5")
    assert qwen.instances == (Instance("Qwen_2.5-a", "127.0.0.1", 7001),)
    assert (llama.route_prefix, llama.path_prefix, len(llama.instances)) == ("/", "", 2)


# What the corrections rest on; a release of Ray without one of these must not pass unnoticed.
NEEDED = [
    r"    tune\.bufsize \d+",
    r"    option redispatch 1",
    r"    retry-on conn-failure",
    r"    errorfile 504 .*",
    r"    http-request return status 200 .* if routes",
    r"    http-request return status 404 .*",
    r"    http-check expect status 200",
    r"    default-server .*",
]


@pytest.mark.parametrize("line", NEEDED)
def test_a_missing_line_is_refused(config: str, tmp_path: Path, line: str) -> None:
    changed, count = re.subn(f"^{line}$", "    # gone", config, flags=re.MULTILINE)
    assert count, "Ray's template has no such line any more"
    with pytest.raises(RefusedError, match="Ray Serve's HAProxy configuration has no line like"):
        corrected_config(changed, settings(tmp_path))


def test_a_second_correction_changes_nothing(config: str, tmp_path: Path) -> None:
    once = corrected_config(config, settings(tmp_path))
    assert once != config
    assert corrected_config(once, settings(tmp_path)) == once


def test_only_the_backup_server_is_disabled(config: str, tmp_path: Path) -> None:
    lines = corrected_config(config, settings(tmp_path)).splitlines()
    servers = [line.strip() for line in lines if line.startswith("    server ")]
    assert [line for line in servers if line.endswith("disabled")] == (
        ["server proxy 127.0.0.1:1 check backup disabled"] * 2
    )
    successors = [line for line in servers if line.startswith("server successor ")]
    assert len(servers) - len(successors) == 5


def test_with_holding_the_backup_stays(config: str, tmp_path: Path) -> None:
    lines = corrected_config(config, replace(settings(tmp_path), hold=True)).splitlines()
    servers = [line.strip() for line in lines if line.startswith("    server ")]
    assert [line for line in servers if "backup" in line] == (
        ["server proxy 127.0.0.1:1 check backup"] * 2
    )


@pytest.mark.parametrize(
    ("front_host", "reached"),
    [(None, "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::", "127.0.0.1"), ("10.0.0.7", "10.0.0.7")],
)
def test_the_successor_is_reached_where_clients_are_answered(
    config: str, tmp_path: Path, front_host: str | None, reached: str
) -> None:
    text = corrected_config(config, settings(tmp_path, front_host))
    (port,) = re.findall(r"frontend http_frontend\n\s+bind \S+:(\d+)\n", text)
    assert f"server successor {reached}:{port} " in text
    used = text.index("use_backend rayserve_successor if { stopping }")
    assert used < text.index("use_backend http-"), "before any application's"


@pytest.mark.parametrize(
    ("front_host", "bound"), [(None, "127.0.0.1"), ("10.0.0.7", "10.0.0.7"), ("::", "[::]")]
)
def test_no_frontend_binds_more_than_was_said(
    config: str, tmp_path: Path, front_host: str | None, bound: str
) -> None:
    text = corrected_config(config, settings(tmp_path, front_host))
    binds = re.findall(r"^\s*bind (\S+):\d+$", text, re.MULTILINE)
    assert binds == [bound, bound, "127.0.0.1"]


def test_the_grpc_frontend_binds_no_more_either(tmp_path: Path) -> None:
    api = serve_api(tmp_path, [])
    api.cfg.grpc_options = gRPCOptions(port=9000, grpc_servicer_functions=["json.dumps"])
    api._generate_config_file_internal()
    rendered = Path(api.config_file_path).read_text("utf-8")
    assert "    bind *:9000 proto h2\n" in rendered, "Ray's template words it otherwise"
    assert "    bind 127.0.0.1:9000 proto h2\n" in corrected_config(rendered, settings(tmp_path))


@pytest.mark.parametrize("bind", ["ipv4@*:8000", "*:8000,*:8001", "*", "/run/http.sock", "fd@3"])
def test_a_bind_that_cannot_be_judged_is_refused(config: str, tmp_path: Path, bind: str) -> None:
    reworded, count = re.subn(r"(frontend http_frontend\n    bind) \S+", rf"\1 {bind}", config)
    assert count
    with pytest.raises(RefusedError, match="in `frontend http_frontend`"):
        corrected_config(reworded, settings(tmp_path))


@pytest.mark.parametrize("address", ["10.1.1.1", "host-1.lan", "::1", "[fe80::1%eth0]"])
def test_an_explicit_address_is_known_as_one(config: str, tmp_path: Path, address: str) -> None:
    given = re.sub(r"bind \*:(\d+)\n", rf"bind {address}:\1\n", config, count=1)
    assert f"bind {address}:" in corrected_config(given, settings(tmp_path))


def test_an_address_that_serve_was_given_stays(config: str, tmp_path: Path) -> None:
    given = re.sub(r"bind \*:(\d+)\n", r"bind 10.1.1.1:\1\n", config, count=1)
    assert "bind 10.1.1.1:" in corrected_config(given, settings(tmp_path, "0.0.0.0"))


def test_no_app_one_app_several_apps(tmp_path: Path) -> None:
    """The body is read for its model only where there are several."""

    def rules(*backends: tuple[str, str, int]) -> str:
        made = [
            backend(name, prefix, [Replica(str(n), 7000 + n) for n in range(count)])
            for name, prefix, count in backends
        ]
        return corrected_config(rendered_config(tmp_path, made), settings(tmp_path))

    assert "lua.rayserve_front" not in rules()
    alone = rules(("m", "/", 1))
    assert "json_query" not in alone
    assert "lua.rayserve_front if METH_POST" not in alone
    assert "lua.rayserve_front if METH_POST" in rules(("m", "/", 2))
    assert "set-path /p%[path]" in rules(("m", "/p", 1))
    assert "json_query" in rules(("m", "/", 1), ("n", "/n", 1))


@pytest.mark.parametrize("answer", [UNAVAILABLE, MALFORMED, TOO_SLOW, too_large(5)])
def test_the_errors_are_openai_s_and_their_length_is_right(answer: ErrorAnswer) -> None:
    head, body = answer.response.split("\r\n\r\n")
    status, *lines = head.split("\r\n")
    headers = dict(line.split(": ") for line in lines)
    assert status == f"HTTP/1.1 {answer.status} {answer.reason}"
    assert headers["Content-Type"] == "application/json"
    assert int(headers["Content-Length"]) == len(body.encode())
    assert ("Retry-After" in headers) == (answer.status == 503)
    assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}
    assert "'" not in body, "it stands in strong quotes in the configuration"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (3, "3"),
        ('a"\\\n', '"a\\034\\092\\010"'),
        ("\u00e4", '"\\195\\164"'),
        ([1, "x"], '{ 1, "x" }'),
        ({"k": []}, '{ ["k"] = {  } }'),
    ],
)
def test_values_become_lua(value: object, text: str) -> None:
    assert lua_literal(value) == text


def test_what_lua_does_not_know_is_refused() -> None:
    with pytest.raises(TypeError):
        lua_literal(object())
