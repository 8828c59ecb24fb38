"""From what a user calls a model to its geometry."""

import json
from pathlib import Path

import pytest

from rayserve_par.errors import RefusedError
from rayserve_par.model import known_config, known_names
from rayserve_par.serving.model_store.builtin import builtin_folder, ensure_builtin
from rayserve_par.serving.model_store.locate import locate_model

SMOL = "HuggingFaceTB/SmolLM2-135M-Instruct"


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No hub, and an empty cache of our own."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("RAYSERVE_PAR_CACHE_DIR", str(tmp_path / "cache"))


def model_folder(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(known_config(SMOL)), encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", known_names())
def test_shipped_hub_models_need_no_network(name: str) -> None:
    found = locate_model(name, prepare=False)
    assert (found.spec.name, found.load_path) == (name, name)


def test_a_folder_and_its_config_file_are_one_model(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "my-model")
    for name in (str(folder), f"{folder}/", str(folder / "config.json")):
        found = locate_model(name, prepare=False)
        assert found.load_path == str(folder)
        assert found.spec.num_layers == 30


def test_a_folder_wins_over_a_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model_folder(tmp_path / "openai" / "gpt-oss-120b")
    monkeypatch.chdir(tmp_path)
    assert locate_model("openai/gpt-oss-120b", prepare=False).spec.num_layers == 30


def test_a_built_in_model_that_was_never_prepared_has_its_shipped_geometry() -> None:
    found = locate_model("smollm2-135m-instruct", prepare=False)
    assert found.spec.num_layers == 30
    assert found.load_path == str(builtin_folder("smollm2-135m-instruct"))
    assert not builtin_folder("smollm2-135m-instruct").exists()


def test_a_prepared_model_is_used_as_it_is(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "cache" / "models" / "tiny-llama")
    assert ensure_builtin("tiny-llama") == folder
    assert locate_model("tiny-llama").load_path == str(folder)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("no-such-model", ("No model 'no-such-model'", "tiny-llama", "no hub id")),
        ("tiny-lama", ("Did you mean tiny-llama",)),
        ("deepseek-ai/DeepSeek-V31", ("Did you mean deepseek-ai/DeepSeek-V3.1", "The hub said")),
        ("/no/such/folder", ("No model '/no/such/folder'",)),
        ("./models/x", ("No model './models/x'",)),
        ("~/models/x", ("No model '~/models/x'",)),
        ("a/b/c", ("No model 'a/b/c'",)),
    ],
)
def test_unknown_models_are_refused_with_what_was_looked_at(
    name: str, parts: tuple[str, ...]
) -> None:
    with pytest.raises(RefusedError) as refusal:
        locate_model(name, prepare=False)
    for part in parts:
        assert part in str(refusal.value)


def test_a_folder_without_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"holds no config\.json"):
        locate_model(str(tmp_path))


def test_a_broken_config_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(RefusedError, match=r"config\.json is not valid JSON"):
        locate_model(str(tmp_path))


@pytest.mark.parametrize("text", ["[]", "null", '"x"', "7"])
def test_a_config_that_is_no_object_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(RefusedError, match=r"config\.json of .* is not an object"):
        locate_model(str(tmp_path))


def test_a_quantisation_file_that_is_no_object_is_refused(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "my-model")
    (folder / "hf_quant_config.json").write_text("[]", encoding="utf-8")
    with pytest.raises(RefusedError, match=r"hf_quant_config\.json of .* is not an object"):
        locate_model(str(folder))


def test_too_little_disk_is_refused_before_anything_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 5 * 2**20}))
    with pytest.raises(RefusedError, match=r"needs 40 MiB .* has 5 MiB free"):
        ensure_builtin("tiny-moe")
    assert not builtin_folder("tiny-moe").exists()
