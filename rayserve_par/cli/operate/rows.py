"""Named lines under a headline."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text


def grid(rows: Iterable[tuple[str, str | Text]]) -> Table:
    """Names to the left, texts beside them; a text that is too long goes on below itself."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows:
        table.add_row(Text(f"  {name}", style="dim"), Text(text) if isinstance(text, str) else text)
    return table
