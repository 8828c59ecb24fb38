"""The corrections to the HAProxy configuration that Ray Serve writes."""

import json
import os
from pathlib import Path

import pytest

from rayserve_par.serving import haproxy_launcher
from rayserve_par.serving.haproxy_launcher import (
    config_file_of,
    correct_files,
    corrected_config,
    error_response,
)

# The parts of a rendered configuration that matter here, in Serve's own layout.
SAMPLE = """\
global
    stats socket /tmp/haproxy-serve/admin.sock mode 666 level admin expose-fd listeners
    stats timeout 30s
    nbthread 4
defaults
    mode http
    timeout connect 5s
    option redispatch 1
    retry-on conn-failure
    errorfile 502 {folder}/500.http
    errorfile 503 {folder}/500.http
    errorfile 504 {folder}/500.http
    balance leastconn
frontend prometheus
    bind :9101
    mode http
    http-request use-service prometheus-exporter if {{ path /metrics }}
frontend http_frontend
    bind *:8000
    acl healthcheck path -i /-/healthz
    acl backend_http-chat_server_up nbsrv(http-chat) ge 1
    use_backend http-chat if is_http-chat
    default_backend default_backend
backend default_backend
    http-request return status 404 content-type text/plain lf-string "not found"
backend http-chat
    http-reuse always
    option httpchk GET /-/healthz
    http-check expect status 200
    default-server fastinter 250ms downinter 250ms fall 2 rise 1 inter 2s check
    # Servers in this backend
    server chat-instance-abc 10.0.0.7:30001 check observe layer4 error-limit 5 on-error mark-down
    server chat-instance-def 10.0.0.8:30001 check
    # Fallback to head node's Serve proxy when no ingress replicas are available
    server head-proxy 10.0.0.1:8500 check backup
listen stats
    bind 0.0.0.0:8404
    bind [::]:8405
"""


def changed_lines(front_host: str | None) -> dict[str, str]:
    before, after = SAMPLE.splitlines(), corrected_config(SAMPLE, front_host).splitlines()
    assert len(before) == len(after)
    return {old.strip(): new.strip() for old, new in zip(before, after, strict=True) if old != new}


def test_only_the_backup_server_is_disabled() -> None:
    assert changed_lines(None) == {
        "server head-proxy 10.0.0.1:8500 check backup": (
            "server head-proxy 10.0.0.1:8500 check backup disabled"
        )
    }


def test_every_frontend_is_bound_to_the_front_host() -> None:
    changed = changed_lines("127.0.0.1")
    assert {old: new for old, new in changed.items() if old.startswith("bind")} == {
        "bind :9101": "bind 127.0.0.1:9101",
        "bind *:8000": "bind 127.0.0.1:8000",
        "bind 0.0.0.0:8404": "bind 127.0.0.1:8404",
        "bind [::]:8405": "bind 127.0.0.1:8405",
    }
    assert len(changed) == 5


@pytest.mark.parametrize("front_host", [None, "127.0.0.1"])
def test_a_second_correction_changes_nothing(front_host: str | None) -> None:
    """HAProxy is reloaded with the same file."""
    once = corrected_config(SAMPLE, front_host)
    assert corrected_config(once, front_host) == once


def test_the_error_is_openai_s_and_its_length_is_right() -> None:
    head, body = error_response().split("\r\n\r\n")
    status, *lines = head.split("\r\n")
    headers = dict(line.split(": ") for line in lines)
    assert status == "HTTP/1.1 503 Service Unavailable"
    assert headers["Content-Type"] == "application/json"
    assert int(headers["Content-Length"]) == len(body.encode())
    assert int(headers["Retry-After"]) > 0
    error = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == 503


def test_the_files_are_corrected_in_place(tmp_path: Path) -> None:
    config, error = tmp_path / "haproxy.cfg", tmp_path / "500.http"
    config.write_text(SAMPLE.format(folder=tmp_path), encoding="utf-8")
    error.write_text("HTTP/1.0 500 Internal Server Error\r\n\r\nInternal error", encoding="utf-8")
    correct_files(config, "127.0.0.1")
    assert "check backup disabled" in config.read_text("utf-8")
    assert "bind 127.0.0.1:8000" in config.read_text("utf-8")
    assert error.read_bytes() == error_response().encode()


@pytest.mark.parametrize(
    ("arguments", "file"),
    [
        (["-f", "/a/b.cfg", "-p", "/a/pid"], Path("/a/b.cfg")),
        (["-db", "-f", "x.cfg", "-sf", "123"], Path("x.cfg")),
        (["-v"], None),
        ([], None),
    ],
)
def test_the_config_file_is_found(arguments: list[str], file: Path | None) -> None:
    assert config_file_of(arguments) == file


def test_the_launcher_becomes_haproxy_with_the_same_arguments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "haproxy.cfg"
    config.write_text(SAMPLE.format(folder=tmp_path), encoding="utf-8")
    started: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(os, "execv", lambda binary, words: started.append((binary, words)))
    monkeypatch.setattr(haproxy_launcher, "real_haproxy", lambda: "/real/haproxy")
    monkeypatch.setattr("sys.argv", ["rayserve-par-haproxy", "-f", str(config), "-sf", "7"])
    monkeypatch.setenv("RAYSERVE_PAR_FRONT_HOST", "127.0.0.1")
    haproxy_launcher.main()
    assert started == [("/real/haproxy", ["/real/haproxy", "-f", str(config), "-sf", "7"])]
    assert "bind 127.0.0.1:8000" in config.read_text("utf-8")


def test_the_real_haproxy_is_not_the_launcher_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher = tmp_path / "rayserve-par-haproxy"
    launcher.write_text("#!/bin/sh\n", encoding="utf-8")
    launcher.chmod(0o755)
    monkeypatch.setenv("RAY_SERVE_HAPROXY_BINARY_PATH", str(launcher))
    assert haproxy_launcher.real_haproxy() != str(launcher)
