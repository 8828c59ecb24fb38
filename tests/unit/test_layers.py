"""The layer order, the purity of the first five layers, and who may import vLLM."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "rayserve_par"
LAYERS = ("model", "hardware", "sizing", "planning", "placement", "serving", "control", "cli")
PURE = LAYERS[:5]
# Parts of `control` that decide and simulate: pure as well, though their layer is not.
PURE_PACKAGES = ("control/decide", "control/instance_model", "control/simulate")
# Of the live controller, what thinks: the rest of it reads Ray, the clock and the store.
PURE_FILES = tuple(
    f"control/live/{name}.py"
    for name in (
        "ask",
        "book",
        "carried_out",
        "controller",
        "history",
        "mock_times",
        "records",
        "starts",
        "state_of",
        "status_of",
        "totals",
        "view",
    )
)
PURE_MODULES = {"errors"}  # top-level modules that every layer may import
IMPURE_IMPORTS = {
    "asyncio",
    "datetime",
    "httpx",
    "os",
    "pathlib",
    "random",
    "ray",
    "requests",
    "secrets",
    "socket",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "torch",
    "transformers",
    "urllib",
    "vllm",
}


def layer_of(path: Path) -> str:
    """The first part of a module's path inside the package."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(tree: ast.Module, path: Path) -> Iterator[str]:
    """Every module that is imported, anywhere in the file, with its full name."""
    package = ("rayserve_par", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module or "") if part)
            yield module
            if module == "rayserve_par":
                yield from (f"rayserve_par.{name.name}" for name in node.names)


def modules(*layers: str) -> list[Path]:
    return sorted(path for layer in layers for path in (PACKAGE / layer).rglob("*.py"))


def forbidden_layer_imports(path: Path, source: str) -> list[str]:
    """Imports of layers to the right of the file's own."""
    own = LAYERS.index(layer_of(path))
    found = []
    for name in imports_of(ast.parse(source), path):
        parts = name.split(".")
        if parts[0] != "rayserve_par" or len(parts) == 1:
            continue
        if parts[1] in LAYERS and LAYERS.index(parts[1]) > own:
            found.append(name)
        if layer_of(path) in PURE and parts[1] not in (*LAYERS, *PURE_MODULES):
            found.append(name)
    return found


def impurities(path: Path, source: str) -> list[str]:
    """Imports and calls that reach outside: the clock, the environment, files, other processes."""
    tree = ast.parse(source)
    found = [name for name in imports_of(tree, path) if name.split(".")[0] in IMPURE_IMPORTS]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id in ("open", "print", "input", "exec", "eval"):
                found.append(f"{node.func.id}()")
        elif isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv"):
            found.append(node.attr)
    return found


def test_the_pure_layers_exist() -> None:
    assert [layer for layer in (*PURE, *PURE_PACKAGES) if not modules(layer)] == []


@pytest.mark.parametrize(
    "path", modules(*PURE_PACKAGES), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_pure_packages_import_only_what_is_pure(path: Path) -> None:
    allowed = (*PURE, "errors", *(package.replace("/", ".") for package in PURE_PACKAGES))
    ours = [
        name.removeprefix("rayserve_par.")
        for name in imports_of(ast.parse(path.read_text(encoding="utf-8")), path)
        if name.startswith("rayserve_par.")
    ]
    assert [one for one in ours if not one.startswith(allowed)] == []


@pytest.mark.parametrize("path", modules(*LAYERS), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_left(path: Path) -> None:
    assert forbidden_layer_imports(path, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "path",
    [*modules(*PURE, *PURE_PACKAGES), *(PACKAGE / file for file in PURE_FILES)],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_pure_layers_reach_for_nothing(path: Path) -> None:
    assert impurities(path, path.read_text(encoding="utf-8")) == []


def test_only_the_bridge_imports_vllm() -> None:
    bridge = PACKAGE / "serving" / "vllm_bridge"
    users = [
        str(path.relative_to(PACKAGE))
        for path in sorted(PACKAGE.rglob("*.py"))
        if bridge not in path.parents
        for name in imports_of(ast.parse(path.read_text(encoding="utf-8")), path)
        if name.split(".")[0] == "vllm"
    ]
    assert users == []


@pytest.mark.parametrize(
    ("layer", "source", "found"),
    [
        ("model", "from rayserve_par.hardware.gpu import Gpu", ["rayserve_par.hardware.gpu"]),
        ("sizing", "from rayserve_par import planning", ["rayserve_par.planning"]),
        ("sizing", "from ..planning import layout", ["rayserve_par.planning"]),
        ("planning", "from rayserve_par.settings import Settings", ["rayserve_par.settings"]),
        ("planning", "from rayserve_par.sizing import RankSplit", []),
        ("placement", "from rayserve_par.errors import RefusedError", []),
        ("serving", "def f():\n    import rayserve_par.cli.main", ["rayserve_par.cli.main"]),
    ],
)
def test_the_layer_check_sees_every_form(layer: str, source: str, found: list[str]) -> None:
    assert forbidden_layer_imports(PACKAGE / layer / "x.py", source) == found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import ray.serve", ["ray.serve"]),
        ("def f():\n    from torch import nn", ["torch"]),
        ("from time import monotonic", ["time"]),
        ("x = open('a')", ["open()"]),
        ("import os\nx = os.environ['A']", ["os", "environ"]),
        ("from importlib.resources import files", []),
    ],
)
def test_the_purity_check_sees_every_form(source: str, found: list[str]) -> None:
    assert impurities(PACKAGE / "model" / "x.py", source) == found
