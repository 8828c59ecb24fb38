"""Reads PromQL as far as we need it: the metrics that an expression names.

What is left of an expression without its strings, selectors, windows and lists of labels is names,
numbers and operators. A name in front of a parenthesis is a function or an aggregation.
"""

from __future__ import annotations

import re

_STRINGS = re.compile(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'')
_SELECTORS = re.compile(r"\{[^{}]*\}|\[[^\[\]]*\]")
_LABEL_LISTS = re.compile(
    r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^()]*\)", re.IGNORECASE
)
_NAME = re.compile(r"(?<![\w.:$])[A-Za-z_:][\w:]*(?!\w)(?!\s*\()")
_WORD = re.compile(
    "and|or|unless|bool|by|without|on|ignoring|group_left|group_right|offset|inf|nan", re.IGNORECASE
)
_COMPARISON = re.compile(r"(==|!=|>=|<=|>|<)(?!\s*bool\b)")


def metric_names(expr: str) -> frozenset[str]:
    """Every metric or recorded rule that `expr` names."""
    for part in (_STRINGS, _SELECTORS, _LABEL_LISTS):
        expr = part.sub(" ", expr)
    return frozenset(name for name in _NAME.findall(expr) if not _WORD.fullmatch(name))


def with_bool(expr: str) -> str:
    """`expr` with comparisons that answer 0 or 1, where they would leave out what is not so.

    What stands in strings and selectors is kept as it is.
    """
    kept = re.compile(f"({_STRINGS.pattern}|{_SELECTORS.pattern})")
    parts = kept.split(expr)
    return "".join(
        part if index % 2 else _COMPARISON.sub(r"\1 bool", part) for index, part in enumerate(parts)
    )
