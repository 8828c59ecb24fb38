"""Which configuration a HAProxy gets whose manager was started anew."""

from __future__ import annotations

from pathlib import Path

import pytest
from front_harness import backend, rendered_config
from front_replica import Replica

from rayserve_par.serving.front.known_config import known_config


@pytest.fixture
def serving(tmp_path: Path) -> str:
    return rendered_config(tmp_path, [backend("m", "/", [Replica("a", 7001)])])


def on_port_of(config: str, other: str) -> str:
    def port(text: str) -> str:
        return text.split("frontend http_frontend")[1].split(":", 1)[1].split("\n", 1)[0]

    return config.replace(f":{port(config)}\n", f":{port(other)}\n")


@pytest.fixture
def empty(tmp_path: Path, serving: str) -> str:
    return on_port_of(rendered_config(tmp_path, []), serving)


def test_the_last_known_one_while_a_stand_in_is_taken_over_from(
    tmp_path: Path, serving: str, empty: str
) -> None:
    file = tmp_path / "known.cfg"
    assert known_config(serving, file, taking_over=False) == serving
    assert known_config(empty, file, taking_over=True) == serving
    assert file.read_text("utf-8") == serving


def test_serve_s_own_wherever_it_names_applications(tmp_path: Path, serving: str) -> None:
    file = tmp_path / "known.cfg"
    known_config(serving, file, taking_over=False)
    other = serving.replace("7001", "7002")
    assert known_config(other, file, taking_over=True) == other


def test_serve_s_own_where_nothing_stands_in(tmp_path: Path, serving: str, empty: str) -> None:
    file = tmp_path / "known.cfg"
    known_config(serving, file, taking_over=False)
    assert known_config(empty, file, taking_over=False) == empty


def test_serve_s_own_where_nothing_is_known(tmp_path: Path, empty: str) -> None:
    assert known_config(empty, tmp_path / "known.cfg", taking_over=True) == empty


def test_serve_s_own_where_it_listens_elsewhere(tmp_path: Path, serving: str) -> None:
    file = tmp_path / "known.cfg"
    known_config(serving, file, taking_over=False)
    elsewhere = rendered_config(tmp_path, [])
    assert known_config(elsewhere, file, taking_over=True) == elsewhere
