"""Memory of a rank of every PP stage, as bars on one scale in GiB."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from rayserve_par.cli.plan_html.scale import LinearScale, linear_scale
from rayserve_par.cli.plan_html.svg import box, element, line, picture, text
from rayserve_par.cli.plan_numbers import number
from rayserve_par.cli.plan_view import memory_parts
from rayserve_par.hardware.gpu import GIB
from rayserve_par.sizing.rank_memory import RankMemory

_WIDTH, _LEFT, _RIGHT = 860.0, 92.0, 20.0
_ROW, _BAR, _FOOT = 40.0, 26.0, 40.0
_TEXT_PIXELS = 7.5
PART_CLASSES = ("weights", "activations", "rest", "kv", "unused")


def memory_bars(stages: Sequence[RankMemory]) -> Markup:
    """One bar for each stage; the scale ends at what a GPU's driver offers or the tick after it."""
    scale = linear_scale(stages[0].usable_bytes / GIB, _LEFT, _WIDTH - _RIGHT)
    height = _ROW * len(stages) + _FOOT
    bars = [_bar(memory, _ROW * row + 6, scale) for row, memory in enumerate(stages)]
    return picture(
        _WIDTH, height, "Memory of a rank by PP stage, in GiB", *_axis(scale, height), *bars
    )


def _axis(scale: LinearScale, height: float) -> list[Markup]:
    bottom = height - _FOOT
    found = []
    for tick in scale.ticks:
        x = scale.at(tick)
        found += [
            line(x, 0, x, bottom, "grid"),
            text(number(tick), x, bottom + 16, class_="tick", anchor="middle"),
        ]
    middle = (scale.start + scale.end) / 2
    found.append(text("GiB of one GPU", middle, bottom + 34, class_="label", anchor="middle"))
    return found


def _bar(memory: RankMemory, top: float, scale: LinearScale) -> Markup:
    name = f"stage {memory.stage}" if memory.stages > 1 else "every rank"
    found = [text(name, _LEFT - 10, top + _BAR / 2 + 5, class_="tick", anchor="end")]
    start = 0.0
    for part, class_ in zip(memory_parts(memory), PART_CLASSES, strict=True):
        size = part.size_bytes / GIB
        left, right = scale.at(start), scale.at(start + size)
        said = element("title", f"{name}: {part.name} {size:.2f} GiB")
        found.append(box(left, top, right - left, _BAR, class_, said))
        shown = f"{size:.1f}"
        if right - left > _TEXT_PIXELS * len(shown) + 6:
            middle = (left + right) / 2
            inside = f"inside on-{class_}"
            found.append(text(shown, middle, top + _BAR / 2 + 5, class_=inside, anchor="middle"))
        start += size
    return element("g", *found)
