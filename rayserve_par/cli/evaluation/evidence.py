"""Reading a folder of evidence: rows of its JSON-lines files, and lines that are none."""

import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from rayserve_par.errors import RefusedError


class Kind(StrEnum):
    """What a row is about; the value is the name of its file."""

    LATENCY = "measured_latency.jsonl"
    ENGINE = "h200_engine.jsonl"
    MEMORY = "measured_memory.jsonl"
    LAYOUT = "published_layouts.jsonl"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a file. `fields` is empty and `unreadable` says why where it is no object."""

    kind: Kind
    line: int
    fields: dict[str, Any]
    unreadable: str | None = None


def read_evidence(folder: Path) -> list[Row]:
    """All rows of all known files that are there, in the order of `Kind`.

    Raises RefusedError where the folder is missing or has none of the files.
    """
    if not folder.is_dir():
        raise RefusedError(f"--evidence {folder}: there is no such folder.")
    found = [(kind, folder / kind) for kind in Kind if (folder / kind).is_file()]
    if not found:
        raise RefusedError(
            f"--evidence {folder} has none of {', '.join(Kind)}. Give a folder with at least one."
        )
    return [row for kind, path in found for row in _read(kind, path)]


def _read(kind: Kind, path: Path) -> list[Row]:
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    lines = enumerate(text.split("\n"), start=1)
    return [_row(kind, number, line) for number, line in lines if line.strip()]


def _row(kind: Kind, number: int, line: str) -> Row:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Row(kind, number, {}, f"line {number} is not valid JSON: {error}")
    if not isinstance(fields, dict):
        return Row(kind, number, {}, f"line {number} is no JSON object")
    return Row(kind, number, fields)
