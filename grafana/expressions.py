"""Lists what dashboards ask Prometheus for, with Grafana's variables filled in.

An expression is a panel's `expr`, or a dashboard variable's `label_values(METRIC, LABEL)`, which
is the same question as `group by (LABEL) (METRIC)`. A variable is written `$name`, `${name}` or
`${name:format}`; `$1` and the like belong to PromQL's `label_replace` and stay as they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent

_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_]\w*)(?::\w+)?\}|([A-Za-z_]\w*))")
_LABEL_VALUES = re.compile(r"^label_values\((.+),\s*([A-Za-z_]\w*)\s*\)$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Expression:
    """One PromQL expression and where it stands."""

    dashboard: str
    panel: str
    expr: str

    def __str__(self) -> str:
        return f"{self.dashboard} / {self.panel}: {self.expr}"


def fill_variables(expr: str, variables: Mapping[str, str]) -> str:
    """Replace Grafana's variables in `expr`.

    Raises:
        KeyError: a variable that is not in `variables`.
    """
    return _VARIABLE.sub(lambda found: variables[found[1] or found[2]], expr)


def expressions(document: Mapping[str, Any]) -> Iterator[Expression]:
    """Every expression of one dashboard, as written.

    Raises:
        ValueError: a query variable that is not `label_values(METRIC, LABEL)`.
    """
    title = document["title"]
    for panel in _panels(document.get("panels", ())):
        for target in panel.get("targets", ()):
            yield Expression(title, panel["title"], target["expr"])
    for variable in document.get("templating", {}).get("list", ()):
        if variable["type"] == "query":
            yield Expression(title, f"variable {variable['name']}", _variable_expr(variable))


def all_expressions(variables: Mapping[str, str], folder: Path = FOLDER) -> tuple[Expression, ...]:
    """Every expression of every dashboard in `folder`, with `variables` filled in.

    Raises:
        KeyError: a dashboard uses a variable that is not in `variables`.
    """
    return tuple(
        Expression(found.dashboard, found.panel, fill_variables(found.expr, variables))
        for document in dashboards(folder)
        for found in expressions(document)
    )


def dashboards(folder: Path = FOLDER) -> Iterator[dict[str, Any]]:
    """Every dashboard of `folder`, by file name."""
    for file in sorted(folder.glob("*.json")):
        yield json.loads(file.read_text(encoding="utf-8"))


def _panels(panels: Any) -> Iterator[Mapping[str, Any]]:
    for panel in panels:
        yield panel
        yield from _panels(panel.get("panels") or ())


def _variable_expr(variable: Mapping[str, Any]) -> str:
    query = variable["query"]
    text = query["query"] if isinstance(query, Mapping) else query
    found = _LABEL_VALUES.match(text)
    if found is None:
        raise ValueError(
            f"variable {variable['name']}: {text!r} is not label_values(METRIC, LABEL)"
        )
    return f"group by ({found[2]}) ({found[1]})"
