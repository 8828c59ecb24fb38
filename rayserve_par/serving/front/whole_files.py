"""Files that are there whole or not at all: a launcher may be ended at any moment."""

from __future__ import annotations

from pathlib import Path


def write_whole(file: Path, text: str) -> None:
    """Put `text`, as it is, in the place of what `file` held."""
    new = file.with_name(f"{file.name}.new")
    new.write_text(text, encoding="utf-8", newline="")
    new.replace(file)
