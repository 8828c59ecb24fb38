"""Writes down the names and signatures of one vLLM release that our bridge to it uses.

Run: python -m scripts.record_vllm_signatures --source DIR/vllm --release 0.25.0
     [--out tests/unit/serving/vllm_signatures]

The release's source is parsed and never imported, so that any release can be recorded anywhere:
`pip download --no-deps vllm==0.25.0` and `unzip` give one. What is used is read off the bridge:
what it imports from vLLM, attributes of modules among that, and the homes of moved names; of
classes those members whose names stand anywhere in the bridge. A name that a release lacks is
recorded as null. After a change of what the bridge uses, record all releases anew;
`tests/unit/serving/test_serving_vllm_signatures.py` holds the bridge against the recordings.

A parameter is written as "name" where it must be given, "name=" where it need not; those after "*"
are given by name only, and "*name" and "**name" take what else comes. `self` is left out.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from rayserve_par.serving.vllm_bridge.names import HOMES

BRIDGE = Path(__file__).resolve().parents[1] / "rayserve_par" / "serving" / "vllm_bridge"
RECORDINGS = Path("tests/unit/serving/vllm_signatures")
# Read through objects that the bridge is given, and not imported by it.
_READ = (
    *(("vllm.config", name) for name in ("CacheConfig", "SchedulerConfig", "ModelConfig")),
    ("vllm.platforms.interface", "Platform"),
    ("vllm.v1.metrics.stats", "PrefixCacheStats"),
)
# An object that looks like a module where it is imported.
_OBJECTS = {"current_platform"}
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

Name = tuple[str, str]


def parsed(path: Path) -> ast.Module:
    """A Python file's tree."""
    return ast.parse(path.read_text(encoding="utf-8"))


def vllm_imports(tree: ast.Module) -> dict[str, Name]:
    """What each local name means that a module imports from vLLM; ("vllm", "") is vLLM itself."""
    found: dict[str, Name] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "vllm":
            for alias in node.names:
                found[alias.asname or alias.name] = (str(node.module), alias.name)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name == "vllm":
                    found["vllm"] = ("vllm", "")
    return found


def patched_names() -> tuple[str, ...]:
    """The functions that the executor replaces in vLLM's module."""
    for node in parsed(BRIDGE / "executor.py").body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "_PATCHED":
            return tuple(ast.literal_eval(node.value))
    raise LookupError("executor.py has no _PATCHED")


def used_names(bridge: Path = BRIDGE) -> list[Name]:
    """Every (module, name) of vLLM that the bridge uses."""
    used = {("vllm.v1.executor.ray_executor_v2", name) for name in patched_names()}
    used.update((home, name) for name, homes in HOMES.items() for home in homes)
    used.update(_READ)
    for path in sorted(bridge.glob("*.py")):
        tree = parsed(path)
        imports = vllm_imports(tree)
        used.update(name for name in imports.values() if name[1])
        used.update(name for _, name in module_attributes(tree, imports))
    return sorted(used)


def module_attributes(
    tree: ast.Module, imports: dict[str, Name]
) -> Iterator[tuple[ast.Attribute, Name]]:
    """Attributes of imported names that may be modules: `cpu_moe.CPUUnquantizedExperts`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found = imports.get(node.value.id)
            if found is None or found[1] in _OBJECTS:
                continue
            if not found[1][:1].isupper():
                module = ".".join(part for part in found if part)
                yield node, (module, node.attr)


def parameters(node: ast.FunctionDef | ast.AsyncFunctionDef, *, bound: bool) -> list[str]:
    """A function's parameters; of a `bound` one those that its caller gives."""
    arguments = node.args
    plain = [*arguments.posonlyargs, *arguments.args]
    needed = len(plain) - len(arguments.defaults)
    words = [p.arg if place < needed else f"{p.arg}=" for place, p in enumerate(plain)]
    words = words[1:] if bound else words
    if arguments.vararg:
        words.append(f"*{arguments.vararg.arg}")
    elif arguments.kwonlyargs:
        words.append("*")
    for each, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        words.append(each.arg if default is None else f"{each.arg}=")
    if arguments.kwarg:
        words.append(f"**{arguments.kwarg.arg}")
    return words


def bridge_words(bridge: Path = BRIDGE) -> frozenset[str]:
    """Every word in the bridge's source."""
    texts = (path.read_text(encoding="utf-8") for path in bridge.glob("*.py"))
    return frozenset(word for text in texts for word in re.findall(r"\w+", text))


class Release:
    """The source of one release, below its folder `vllm`; `words` are the members to keep."""

    def __init__(self, source: Path, words: frozenset[str]) -> None:
        self._root = source
        self._words = words
        self._tree = cache(parsed)

    def _path(self, module: str) -> Path | None:
        below = self._root.joinpath(*module.split(".")[1:])
        for path in (below.with_suffix(".py"), below / "__init__.py"):
            if path.is_file():
                return path
        return None

    def find(self, module: str, name: str, seen: frozenset[Name] = frozenset()) -> Any:
        """(module, definition) of a name, through what modules pass on; None where there is none.

        The definition is a tree node, or "module" where the name is one.
        """
        path = self._path(module)
        if path is None or (module, name) in seen:
            return None
        seen |= {(module, name)}
        found = None
        for node in _statements(self._tree(path).body):
            if isinstance(node, (*_FUNCTIONS, ast.ClassDef)) and node.name == name:
                found = (module, node)
            elif name in _assigned(node):
                found = found or (module, node)
            elif isinstance(node, ast.ImportFrom):
                found = found or self._imported(node, module, path, name, seen)
        if found is None and self._path(f"{module}.{name}") is not None:
            return module, "module"
        return found or self._lazy(module, path, name, seen)

    def _imported(
        self, node: ast.ImportFrom, module: str, path: Path, name: str, seen: frozenset[Name]
    ) -> Any:
        package = module.split(".")
        if path.name != "__init__.py":
            package = package[:-1]
        above = package[: len(package) - node.level + 1] if node.level else []
        source = ".".join([*above, *([node.module] if node.module else [])])
        for alias in node.names:
            if alias.name == "*" and source.startswith("vllm"):
                return self.find(source, name, seen)
            if (alias.asname or alias.name) == name:
                if not source.startswith("vllm"):
                    return module, node
                return self.find(source, alias.name, seen)
        return None

    def _lazy(self, module: str, path: Path, name: str, seen: frozenset[Name]) -> Any:
        """A name that a module imports when it is asked for, by its dictionary MODULE_ATTRS."""
        for node in self._tree(path).body:
            if "MODULE_ATTRS" in _assigned(node) and isinstance(node, ast.Assign | ast.AnnAssign):
                where = ast.literal_eval(node.value).get(name) if node.value else None
                if where is not None:
                    home, _, attribute = where.partition(":")
                    return self.find(f"{module}{home}", attribute, seen)
        return None

    def describe(self, module: str, name: str) -> dict[str, Any] | None:
        """What is recorded of a name; None where the release does not have it."""
        found = self.find(module, name)
        if found is None:
            return None
        home, node = found
        if isinstance(node, _FUNCTIONS):
            return {"kind": "function", "parameters": parameters(node, bound=False)}
        if isinstance(node, ast.ClassDef):
            found = self._class(home, node)
            return {
                "kind": "class",
                "methods": {k: v for k, v in found["methods"].items() if k in self._words},
                "attributes": [name for name in found["attributes"] if name in self._words],
                "fields": [each for each in found["fields"] if each.rstrip("=") in self._words],
            }
        return {"kind": node if isinstance(node, str) else "value"}

    def _class(self, module: str, node: ast.ClassDef) -> dict[str, Any]:
        """Methods by parameters, attributes, and fields in order, inherited ones too."""
        methods: dict[str, list[str]] = {}
        attributes: set[str] = set()
        fields: list[str] = []
        for base in reversed(node.bases):
            found = self.find(module, base.id) if isinstance(base, ast.Name) else None
            if found is not None and isinstance(found[1], ast.ClassDef):
                inherited = self._class(*found)
                methods |= inherited["methods"]
                attributes |= set(inherited["attributes"])
                fields += inherited["fields"]
        for statement in _statements(node.body):
            if isinstance(statement, _FUNCTIONS):
                kinds = {getattr(each, "id", "") for each in statement.decorator_list}
                attributes |= _set_on_self(statement)
                if kinds & {"property", "cached_property"}:
                    attributes.add(statement.name)
                else:
                    bound = "staticmethod" not in kinds
                    methods[statement.name] = parameters(statement, bound=bound)
            elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                fields.append(statement.target.id + ("=" if statement.value else ""))
            attributes |= _assigned(statement)
        fields = list(dict.fromkeys(fields))
        return {"methods": methods, "attributes": sorted(attributes), "fields": fields}


def _statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements of a body, those under its conditions too."""
    for node in body:
        yield node
        if isinstance(node, ast.If | ast.Try):
            yield from _statements(node.body)
            yield from _statements(node.orelse)
            for handler in getattr(node, "handlers", ()):
                yield from _statements(handler.body)


def _assigned(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Assign):
        return {target.id for target in node.targets if isinstance(target, ast.Name)}
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return {node.target.id}
    return set()


def _set_on_self(function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    return {
        node.attr
        for node in ast.walk(function)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and getattr(node.value, "id", "") == "self"
    }


def record(source: Path) -> dict[str, Any]:
    """Every used name of a release as "module:name", described."""
    release = Release(source, bridge_words() | {"__init__"})
    return {f"{m}:{name}": release.describe(m, name) for m, name in used_names()}


def main() -> None:
    """Record one release."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, required=True, help="the release's folder vllm")
    parser.add_argument("--release", required=True, help="such as 0.25.0")
    parser.add_argument("--out", type=Path, default=RECORDINGS)
    args = parser.parse_args()
    if not (args.source / "__init__.py").is_file():
        parser.error(f"--source {args.source}: there is no __init__.py; give a folder `vllm`")
    args.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(record(args.source), indent=1)
    (args.out / f"{args.release}.json").write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
