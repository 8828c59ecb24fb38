"""Preparing a built-in model: all of it or nothing, and a word about the disk."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from rayserve_par.errors import RefusedError
from rayserve_par.serving.model_store import builtin
from rayserve_par.serving.model_store.builtin import BUILTIN_MODELS, BuiltinModel, ensure_builtin

Usage = namedtuple("Usage", "total used free")
NAME = "made-here"


def fake_model(prepare: object, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setenv("RAYSERVE_PAR_CACHE_DIR", str(cache))
    model = BuiltinModel(NAME, "a test's", 1000, {}, prepare)  # type: ignore[arg-type]
    monkeypatch.setitem(BUILTIN_MODELS, NAME, model)


def complete(folder: Path) -> None:
    (folder / "weights").write_text("w")
    (folder / "config.json").write_text("{}")


def test_a_full_disk_is_refused_with_the_numbers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_model(complete, monkeypatch, tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 999))
    with pytest.raises(RefusedError, match="RAYSERVE_PAR_CACHE_DIR"):
        ensure_builtin(NAME)


def test_an_interrupted_preparation_is_made_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(folder: Path) -> None:
        (folder / "config.json").write_text("{}")
        raise KeyboardInterrupt

    fake_model(interrupted, monkeypatch, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        ensure_builtin(NAME)
    assert not builtin.is_prepared(NAME)
    fake_model(complete, monkeypatch, tmp_path)
    folder = ensure_builtin(NAME)
    assert sorted(file.name for file in folder.iterdir()) == ["config.json", "weights"]


def test_a_prepared_model_is_not_made_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made: list[Path] = []

    def count(folder: Path) -> None:
        made.append(folder)
        complete(folder)

    fake_model(count, monkeypatch, tmp_path)
    assert ensure_builtin(NAME) == ensure_builtin(NAME)
    assert len(made) == 1
