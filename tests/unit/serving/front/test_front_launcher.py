"""The command that Serve takes for HAProxy."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from front_harness import backend, rendered_config
from front_replica import Replica

from rayserve_par.serving.front import launcher
from rayserve_par.serving.front.error_bodies import UNAVAILABLE


def serve_s_config(folder: Path) -> Path:
    rendered_config(folder, [backend("m", "/", [Replica("a", 7001), Replica("b", 7002)])])
    return folder / "haproxy.cfg"


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
    assert launcher.config_file_of(arguments) == file


def test_the_launcher_becomes_haproxy_with_the_same_arguments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = serve_s_config(tmp_path)
    started: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(os, "execv", lambda binary, words: started.append((binary, words)))
    monkeypatch.setattr(launcher, "real_haproxy", lambda: "/real/haproxy")
    monkeypatch.setenv("RAYSERVE_PAR_FRONT_STAND_IN", "0")
    monkeypatch.setattr("sys.argv", ["rayserve-par-haproxy", "-f", str(config), "-sf", "7"])
    launcher.main()
    assert started == [("/real/haproxy", ["/real/haproxy", "-f", str(config), "-sf", "7"])]
    assert "lua-load" in config.read_text("utf-8")
    # The file that Serve filled with a 500 in plain text.
    assert (tmp_path / "500.http").read_bytes() == UNAVAILABLE.response.encode()
    assert '["prefix"] = ""' in (tmp_path / "front_settings.lua").read_text("utf-8")


def test_a_configuration_that_is_not_known_stops_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = serve_s_config(tmp_path)
    text = config.read_text("utf-8").replace("option redispatch 1", "option redispatch 2")
    config.write_text(text, "utf-8")
    monkeypatch.setattr(os, "execv", lambda *_: pytest.fail("HAProxy was started"))
    monkeypatch.setattr("sys.argv", ["rayserve-par-haproxy", "-f", str(config)])
    with pytest.raises(SystemExit) as ended:
        launcher.main()
    assert ended.value.code == 2
    assert "option redispatch 1" in capsys.readouterr().err
    assert config.read_text("utf-8") == text


def test_the_real_haproxy_is_not_the_launcher_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = tmp_path / "rayserve-par-haproxy"
    command.write_text("#!/bin/sh\n", encoding="utf-8")
    command.chmod(0o755)
    monkeypatch.setenv("RAY_SERVE_HAPROXY_BINARY_PATH", str(command))
    assert launcher.real_haproxy() != str(command)
