"""Names of the engine and server arguments of the installed vLLM, read without importing it.

`import vllm` takes many seconds, and a mistyped argument should be refused at once. The names are
the annotated fields of the argument classes, taken from their source with `ast`.
"""

from __future__ import annotations

import ast
import difflib
import importlib.util
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from rayserve_par.errors import RefusedError

_CLASSES: dict[str, tuple[str, ...]] = {
    "engine/arg_utils.py": ("EngineArgs", "AsyncEngineArgs"),
    "entrypoints/launchers/cli_args.py": ("BaseFrontendArgs", "FrontendArgs"),
    "entrypoints/openai/cli_args.py": ("BaseFrontendArgs", "FrontendArgs"),
}


@cache
def vllm_argument_names() -> frozenset[str]:
    """All argument names of the installed vLLM; empty where vLLM is not installed."""
    spec = importlib.util.find_spec("vllm")
    if spec is None or spec.origin is None:
        return frozenset()
    root = Path(spec.origin).parent
    names: set[str] = set()
    for file, classes in _CLASSES.items():
        path = root / file
        if path.is_file():
            names.update(_annotated_fields(path.read_text(encoding="utf-8"), classes))
    return frozenset(names)


def _annotated_fields(source: str, classes: Iterable[str]) -> Iterable[str]:
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef) and node.name in classes:
            for statement in node.body:
                if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                    yield statement.target.id


def check_argument_names(engine: Mapping[str, Any]) -> None:
    """Refuse keys of `engine:` that the installed vLLM does not have.

    Raises:
        RefusedError: an unknown key; the message names the nearest known ones.
    """
    known = vllm_argument_names()
    for key in engine if known else ():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=3, cutoff=0.5)
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            raise RefusedError(f"engine.{key}: vLLM has no such argument.{hint}")
