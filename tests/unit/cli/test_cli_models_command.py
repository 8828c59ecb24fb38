"""`rayserve-par models`."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from rayserve_par.cli.main import app
from rayserve_par.model import known_names


@pytest.fixture
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty caches of our own and of the hub's client."""
    monkeypatch.setenv("RAYSERVE_PAR_CACHE_DIR", str(tmp_path / "ours"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


def shown() -> str:
    done = CliRunner().invoke(app, ["models"], catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


@pytest.mark.usefixtures("caches")
def test_every_built_in_and_shipped_model_is_listed() -> None:
    text = shown()
    for name in ("smollm2-135m-instruct", "tiny-llama", "tiny-moe", *known_names()):
        assert name in text
    assert text.count("not prepared yet") == 3
    row = next(line for line in text.splitlines() if "DeepSeek-V3.1" in line)
    assert row.split()[1:4] == ["671B", "37.55B", "fp8-block128"]
    assert "Hugging Face cache" not in text


def test_a_prepared_model_shows_its_folder(caches: Path) -> None:
    folder = caches / "ours" / "models" / "tiny-moe"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}", encoding="utf-8")
    text = shown()
    assert text.count("not prepared yet") == 2
    assert "tiny-moe" in "".join(text.split()).split("EP4")[1]


def test_models_of_the_hub_cache_are_listed(caches: Path) -> None:
    repo = caches / "hub" / "models--acme--chat-7b"
    snapshot = repo / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_bytes(b"x" * 2_500_000)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("0" * 40, encoding="utf-8")
    (caches / "hub" / "datasets--acme--words" / "snapshots").mkdir(parents=True)
    text = shown()
    assert "acme/chat-7b" in text
    assert "0.0025 GB" in text
    assert "acme/words" not in text
