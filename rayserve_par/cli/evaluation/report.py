"""The summary of an evaluation for people: rich tables made of nothing but the summary."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

Figures = Mapping[str, Any]


def render_summary(summary: Figures) -> RenderableType:
    """Every part that the evidence has."""
    return Group(
        *_latency(summary.get("latency")),
        *_choice(summary.get("choice")),
        *_start_ups("Engines: error of", summary.get("engine")),
        *_start_ups("Start-ups: error of", summary.get("memory")),
        *_layouts(summary.get("layouts")),
    )


def percent(value: float | None) -> str:
    """A fraction with one decimal in percent."""
    return "" if value is None else f"{value:.1%}"


def _text(text: str, style: str = "") -> Text:
    """Words of the evidence as they are: no markup, and no half characters that no file holds."""
    return Text(text.encode(errors="replace").decode(), style=style)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left", overflow="fold")
    return table


def _skipped(part: Figures) -> Iterator[Text]:
    for reason, count in part["skipped"].items():
        yield _text(f"  skipped {count}: {reason}", style="yellow")


def _latency(part: Figures | None) -> Iterator[RenderableType]:
    if part is None:
        return
    names = ("rows", "TPOT median", "p90", "TTFT median", "p90")
    table = _table("Served rows: absolute error of", "", *names)
    groups: Iterable[tuple[str, Figures]] = [
        ("all", part),
        *part["by_family"].items(),
        *part["by_engine"].items(),
        *part["by_gpu"].items(),
    ]
    for name, line in groups:
        tpot, ttft = line["tpot"], line["ttft"]
        errors = (tpot["median"], tpot["p90"], ttft["median"], ttft["p90"])
        table.add_row(_text(name), str(tpot["n"]), *map(percent, errors))
    yield table
    yield from _skipped(part)
    if part["predicted_not_to_fit"]:
        yield Text(f"  {part['predicted_not_to_fit']} rows ran, but are predicted not to fit")


def _choice(part: Figures | None) -> Iterator[RenderableType]:
    if part is None or not part["cases"]:
        return
    title = (
        f"Choice among measured layouts: mean regret {percent(part['mean_regret'])}, top-1 "
        f"{percent(part['top_1'])} ({part['cases']} cases of {part['groups']} groups); the worst:"
    )
    table = _table(title, "model, GPU, engine, precision, ISL, OSL", "TPOT", "ours", "best", "lost")
    for case in part["worst"]:
        group = " ".join(str(part) for part in case["group"])
        limit = f"{case['tpot_limit_ms']:g} ms"
        table.add_row(_text(group), limit, case["ours"], case["best"], percent(case["regret"]))
    yield Text()
    yield table


def _start_ups(title: str, part: Figures | None) -> Iterator[RenderableType]:
    if part is None:
        return
    names = ("weights", "KV GiB", "KV tokens", "fits", "worst TPOT", "at batch", "worst prefill")
    table = _table(title, "", *names)
    for line in part["engines"]:
        errors = [percent(line[key]) for key in ("weights", "kv_gib", "kv_tokens")]
        tpot, batch = _worst(line["tpot_by_batch"])
        prefill, _ = _worst(line["prefill_by_prompt"])
        fits = "yes" if line["fits"] else "no"
        name = _text(line["name"])
        table.add_row(name, *errors, fits, percent(tpot), batch, percent(prefill))
    yield Text()
    yield table
    yield from _skipped(part)


def _worst(errors: Mapping[str, float | None]) -> tuple[float | None, str]:
    known = [(error, key) for key, error in errors.items() if error is not None]
    return max(known, default=(None, ""))


def _layouts(part: Figures | None) -> Iterator[RenderableType]:
    if part is None:
        return
    yield Text()
    yield Text(
        f"Recommended layouts: {part['agreed']} of {part['judged']} have as many GPUs as ours, or "
        f"ours has fewer and fits ({percent(part['agreement']) or 'none judged'})"
    )
    yield from _skipped(part)
    for one in part["disagreements"]:
        chosen = one["chosen_gpus"]
        ours = "nothing" if chosen is None else f"{chosen} GPUs an instance"
        nodes = "1 node" if one["nodes"] == 1 else f"{one['nodes']} nodes"
        yield _text(
            f"  line {one['line']}: {one['model']} on {nodes} of {one['hardware']}, {one['goal']}: "
            f"{one['recommended_gpus']} GPUs an instance recommended, {ours} chosen. {one['why']}"
        )
