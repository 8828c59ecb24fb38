"""Keys: their text, lookup, permission, where they come from, reload, and the command line."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from rayserve_par.cli.main import app
from rayserve_par.errors import RefusedError
from rayserve_par.serving.admission.args import LimitArgs
from rayserve_par.serving.admission.key_source import open_key_source
from rayserve_par.serving.admission.keys import (
    KeyEntry,
    KeySet,
    hash_of,
    new_secret,
    parse_keys,
)
from rayserve_par.settings import Settings

HASH = "a" * 64


def entry(name: str, secret: str) -> KeyEntry:
    return KeyEntry(name=name, sha256=hash_of(secret))


def text(*names: str) -> str:
    return yaml.safe_dump({"keys": [{"name": name, "sha256": hash_of(name)} for name in names]})


@given(st.lists(st.text(min_size=1), unique=True, min_size=1), st.text())
def test_a_key_is_found_by_its_secret_and_by_no_other(secrets: list[str], other: str) -> None:
    keys = KeySet(entry(f"k{index}", secret) for index, secret in enumerate(secrets))
    for index, secret in enumerate(secrets):
        found = keys.find(secret.encode())
        assert found is not None
        assert found.name == f"k{index}"
    if other not in secrets:
        assert keys.find(other.encode()) is None


def test_secrets_differ_and_hold_256_bits() -> None:
    made = {new_secret() for _ in range(100)}
    assert len(made) == 100
    assert all(len(secret) == len("rsp-") + 43 for secret in made)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("keys: [", "neither YAML nor JSON at line 1"),
        ("", "has no `keys:`"),
        ("[]", "has no `keys:`"),
        ("keys: {}", "keys"),
        (f"keys: [{{name: a, sha256: {HASH}, limit: 1}}]", "did you mean 'limits'"),
        ("keys: [{name: a, sha256: abc}]", "keys.0.sha256"),
        (f"keys: [{{name: '(x)', sha256: {HASH}}}]", "keys.0.name"),
        (f"keys: [{{name: a, sha256: {HASH}}}, {{name: b, sha256: {HASH}}}]", "same sha256"),
        (f"keys: [{{name: a, sha256: {HASH}, limits: {{concurrency: 0}}}}]", "concurrency"),
    ],
)
def test_bad_texts_are_refused_without_their_hashes(bad: str, said: str) -> None:
    with pytest.raises(RefusedError) as refusal:
        parse_keys(bad, "keys.yaml")
    assert said in str(refusal.value)
    assert "keys.yaml" in str(refusal.value)
    assert "same sha256" in said or HASH not in str(refusal.value)


def test_json_is_read_too_and_an_empty_list_lets_nobody_in() -> None:
    keys = parse_keys(json.dumps({"keys": [{"name": "a", "sha256": hash_of("s")}]}), "x")
    assert keys.find(b"s") is not None
    assert parse_keys("keys: []", "x").find(b"") is None


@pytest.mark.parametrize(
    ("models", "asked", "allowed"),
    [
        (None, "anything", True),
        (("llama",), "llama", True),
        (("llama",), "alias", True),  # another name of the same instance
        (("llama",), "adapter", False),
        (("qwen",), "llama", False),
        ((), "llama", False),
    ],
)
def test_allowed_models(models: tuple[str, ...] | None, asked: str, allowed: bool) -> None:
    key = KeyEntry(name="a", sha256=HASH, models=models)
    assert key.may_use(asked, ("llama", "alias")) is allowed


def test_a_key_ends_at_its_time_in_utc() -> None:
    key = KeyEntry.model_validate({"name": "a", "sha256": HASH, "expires": "2027-01-01T00:00:00"})
    end = datetime(2027, 1, 1, tzinfo=UTC).timestamp()
    assert not key.expired(end - 1)
    assert key.expired(end)


def test_own_limits_replace_the_defaults_one_by_one() -> None:
    own, defaults = LimitArgs(concurrency=2), LimitArgs(concurrency=9, tokens_per_minute=5)
    assert own.over(defaults) == LimitArgs(concurrency=2, tokens_per_minute=5)


def test_the_first_source_that_is_set_counts(tmp_path: Path) -> None:
    configured, environment = tmp_path / "a.yaml", tmp_path / "b.yaml"
    configured.write_text(text("configured"))
    environment.write_text(text("environment"))
    both = Settings(keys_file=environment, keys=text("inline"))

    def names(keys_file: str | None, settings: Settings) -> list[str]:
        source = open_key_source(keys_file, settings)
        assert source is not None
        return [each.name for each in source.keys.entries]

    assert names(str(configured), both) == ["configured"]
    assert names(None, both) == ["environment"]
    assert names(None, Settings(keys=text("inline"))) == ["inline"]
    assert open_key_source(None, Settings()) is None


def test_settings_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYSERVE_PAR_KEYS", text("env"))
    source = open_key_source(None)
    assert source is not None
    assert source.keys.find(b"env") is not None


def test_a_missing_file_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="cannot be read"):
        open_key_source(str(tmp_path / "none.yaml"))


def test_reload_follows_the_file_and_keeps_the_last_good_keys(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(text("old"))
    source = open_key_source(str(path), Settings())
    assert source is not None
    assert not source.reload()
    replacement = tmp_path / "new.yaml"
    replacement.write_text(text("new"))
    os.replace(replacement, path)  # the same size, perhaps the same mtime: another inode
    assert source.reload()
    assert source.keys.find(b"new") is not None
    assert source.keys.find(b"old") is None
    for bad in ("keys: [{name: x}]", "\x00\x01"):
        path.write_text(bad)
        assert not source.reload()
        assert source.keys.find(b"new") is not None
    path.write_bytes(b"\xff\xfe")
    assert not source.reload()
    path.unlink()
    assert not source.reload()
    assert source.keys.find(b"new") is not None
    path.write_text("keys: []")
    assert source.reload()
    assert source.keys.find(b"new") is None


@pytest.mark.parametrize("name", ["keys.yaml", "keys.json"])
def test_the_command_prints_the_key_once_and_keeps_its_hash(tmp_path: Path, name: str) -> None:
    path, runner = tmp_path / name, CliRunner()
    made = runner.invoke(
        app, ["keys", "new", "alice", "--rpm", "3", "--priority", "-1", "--file", str(path)]
    )
    assert made.exit_code == 0
    secret = made.stdout.strip().splitlines()[-1]
    assert runner.invoke(app, ["keys", "new", "bob", "--file", str(path)]).exit_code == 0
    keys = parse_keys(path.read_text(), name)
    found = keys.find(secret.encode())
    assert found is not None
    assert (found.name, found.limits.requests_per_minute, found.priority) == ("alice", 3, -1)
    assert secret not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    listed = runner.invoke(app, ["keys", "list", "--file", str(path)]).stdout
    assert "alice" in listed
    assert "bob" in listed
    assert found.sha256 not in listed


def test_the_command_refuses_a_name_twice(tmp_path: Path) -> None:
    path, runner = tmp_path / "keys.yaml", CliRunner()
    runner.invoke(app, ["keys", "new", "alice", "--file", str(path)])
    before = path.read_text()
    again = runner.invoke(app, ["keys", "new", "alice", "--file", str(path)])
    assert isinstance(again.exception, RefusedError)
    assert path.read_text() == before
