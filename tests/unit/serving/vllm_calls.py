"""Whether a call or an override fits a signature as `scripts.record_vllm_signatures` writes it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Call:
    """Arguments by place and by name; `open_ended`: * or ** gives more that cannot be read."""

    places: int
    names: tuple[str, ...]
    open_ended: bool = False

    @classmethod
    def of(cls, node: ast.Call) -> Call:
        plain = [each for each in node.args if not isinstance(each, ast.Starred)]
        names = tuple(each.arg for each in node.keywords if each.arg)
        rest = len(plain) < len(node.args) or len(names) < len(node.keywords)
        return cls(len(plain), names, rest)


def misfit(call: Call, parameters: Iterable[str]) -> str | None:
    """Why the call does not fit; None where it does."""
    by_place: list[str] = []
    by_name: list[str] = []
    takes_places = takes_names = False
    keyword_only = False
    for word in parameters:
        if word.startswith("**"):
            takes_names = True
        elif word.startswith("*"):
            keyword_only, takes_places = True, takes_places or len(word) > 1
        else:
            (by_name if keyword_only else by_place).append(word)
    known = {word.rstrip("=") for word in (*by_place, *by_name)}
    if call.places > len(by_place) and not takes_places:
        return f"{call.places} arguments by place, and it takes {len(by_place)}"
    unknown = [name for name in call.names if name not in known]
    if unknown and not takes_names:
        return f"no parameter {', '.join(unknown)}"
    needed = [w for w in (*by_place[call.places :], *by_name) if not w.endswith("=")]
    missing = [word for word in needed if word not in call.names]
    return f"lacks {', '.join(missing)}" if missing and not call.open_ended else None


def init_of(described: Mapping[str, Any]) -> list[str]:
    """The parameters of a class: its `__init__`, or its fields."""
    found: list[str] = described["methods"].get("__init__") or described["fields"]
    return found


def too_narrow(ours: list[str], theirs: list[str]) -> str | None:
    """Why an override cannot be called as what it overrides; None where it can."""
    if any(word.startswith("**") for word in ours) and any(
        word.startswith("*") and len(word) > 1 and word[1] != "*" for word in ours
    ):
        return None
    own = {word.rstrip("=") for word in ours}
    lacking = [w for w in theirs if not w.startswith("*") and w.rstrip("=") not in own]
    given = {word.rstrip("=") for word in theirs}
    extra = [w for w in ours if not w.endswith("=") and not w.startswith("*") and w not in given]
    if lacking:
        return f"ours lacks {', '.join(lacking)}"
    return f"ours needs {', '.join(extra)}" if extra else None
