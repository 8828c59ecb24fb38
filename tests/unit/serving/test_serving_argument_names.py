"""Names of vLLM's arguments, read without importing it."""

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from rayserve_par.errors import RefusedError
from rayserve_par.serving.vllm_bridge.argument_names import (
    check_argument_names,
    vllm_argument_names,
)


@pytest.fixture
def fresh_names() -> Iterator[None]:
    """Names are kept for the process; a test that bends vLLM must not leave its own behind."""
    vllm_argument_names.cache_clear()
    yield
    vllm_argument_names.cache_clear()


def test_the_installed_vllm_has_engine_and_server_arguments() -> None:
    names = vllm_argument_names()
    engine = {"max_model_len", "gpu_memory_utilization", "tensor_parallel_size", "dtype"}
    server = {"enable_auto_tool_choice", "tool_call_parser", "chat_template", "host", "port"}
    assert engine | server <= names
    assert len(names) > 100


def test_reading_them_does_not_import_vllm() -> None:
    program = (
        "import sys\n"
        "from rayserve_par.serving.vllm_bridge.argument_names import vllm_argument_names\n"
        "assert vllm_argument_names()\n"
        "sys.exit(any(name in sys.modules for name in ('vllm', 'torch', 'ray')))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_known_names_pass() -> None:
    check_argument_names({"max_model_len": 1024, "tool_call_parser": "hermes"})
    check_argument_names({})


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("max_model_length", "max_model_len"),
        ("gpu_memory_utilisation", "gpu_memory_utilization"),
        ("enable_auto_tool_choise", "enable_auto_tool_choice"),
        ("max-model-len", "max_model_len"),
    ],
)
def test_a_mistyped_name_is_refused_with_the_nearest(key: str, near: str) -> None:
    with pytest.raises(RefusedError, match=rf"engine\.{key}: vLLM has no such argument\..*{near}"):
        check_argument_names({"dtype": "auto", key: 1})


def test_nothing_near_is_no_guess() -> None:
    with pytest.raises(RefusedError) as refusal:
        check_argument_names({"zzzzqqqq": 1})
    assert str(refusal.value) == "engine.zzzzqqqq: vLLM has no such argument."


def vllm_at(root: Path) -> ModuleSpec:
    (root / "__init__.py").write_text("", encoding="utf-8")
    return ModuleSpec("vllm", None, origin=str(root / "__init__.py"))


@pytest.mark.usefixtures("fresh_names")
def test_both_homes_of_the_server_arguments_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """vLLM 0.25 keeps them in entrypoints/openai."""
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "arg_utils.py").write_text(
        "class Other:\n    hidden: int = 1\n"
        "class EngineArgs:\n    model: str = ''\n    seed: int = 0\n    x = 1\n"
        "class AsyncEngineArgs(EngineArgs):\n    enable_log_requests: bool = False\n",
        encoding="utf-8",
    )
    (tmp_path / "entrypoints" / "openai").mkdir(parents=True)
    (tmp_path / "entrypoints" / "openai" / "cli_args.py").write_text(
        "class FrontendArgs:\n    host: str | None = None\n", encoding="utf-8"
    )
    spec = vllm_at(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: spec)
    assert vllm_argument_names() == {"model", "seed", "enable_log_requests", "host"}


@pytest.mark.usefixtures("fresh_names")
def test_without_vllm_nothing_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert vllm_argument_names() == frozenset()
    check_argument_names({"anything": 1})
