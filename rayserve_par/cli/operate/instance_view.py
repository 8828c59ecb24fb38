"""The instances of all controlled applications as a table; where they are many, the busiest.

Busiest: most waiting, then most running, then the fullest KV memory. The rest is counted, with the
range of each figure, so that no instance is lost from the picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from rayserve_par.cli.operate.figures import count_text, duration_text, share_text

if TYPE_CHECKING:
    from rayserve_par.control.live.records import InstanceStatus

_BAR = 10
_LATE_SECONDS = 15.0


def render_instances(
    instances: Sequence[tuple[str, InstanceStatus]], names: Mapping[str, str], most_rows: int
) -> RenderableType:
    """`instances` with their applications; `names` are those of the picture, by replica."""
    if not instances:
        return Text("")
    if len(instances) <= most_rows:
        shown, folded = list(instances), []
    else:
        busiest = sorted(instances, key=_load, reverse=True)
        shown, folded = busiest[: most_rows - 1], busiest[most_rows - 1 :]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("instance", overflow="ellipsis", no_wrap=True)
    table.add_column("phase", no_wrap=True)
    for column in ("running", "waiting"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("KV", no_wrap=True)
    table.add_column("reported", justify="right", no_wrap=True)
    for app, one in shown:
        late = one.age_seconds > _LATE_SECONDS
        table.add_row(
            names.get(one.name) or f"{app} {one.name}",
            one.phase,
            str(one.running),
            Text(str(one.waiting), style="yellow" if one.waiting else ""),
            bar(one.kv_use),
            Text(
                f"{duration_text(one.age_seconds)} ago{' LATE' if late else ''}",
                style="bold red" if late else "",
            ),
        )
    return Group(table, folded_line([one for _, one in folded])) if folded else table


def bar(share: float) -> Text:
    """A share as a bar of ten columns and per cent."""
    filled = round(_BAR * min(1.0, max(0.0, share)))
    style = "red" if share > 0.9 else "green"
    return Text.assemble(
        ("█" * filled, style), ("░" * (_BAR - filled), "dim"), f" {share_text(share):>4}"
    )


def folded_line(folded: Sequence[InstanceStatus]) -> Text:
    """The instances that have no row, in a line."""
    return Text(
        f"and {count_text(len(folded), 'instance')} less busy: "
        f"{_range([one.running for one in folded])} running, "
        f"{_range([one.waiting for one in folded])} waiting, KV "
        f"{share_text(min(one.kv_use for one in folded))} to "
        f"{share_text(max(one.kv_use for one in folded))}",
        style="dim",
    )


def _load(entry: tuple[str, InstanceStatus]) -> tuple[int, int, float]:
    one = entry[1]
    return one.waiting, one.running, one.kv_use


def _range(values: Sequence[int]) -> str:
    least, most = min(values), max(values)
    return str(least) if least == most else f"{least} to {most}"
