"""Lines over time: instances as steps, load as an area, minutes below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from rayserve_par.cli.plan_html.scale import LinearScale, linear_scale
from rayserve_par.cli.plan_html.svg import box, element, line, picture, text
from rayserve_par.cli.plan_numbers import number

_WIDTH, _HEIGHT = 860.0, 300.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 56.0, 16.0, 12.0, 44.0


@dataclass(frozen=True, slots=True)
class Line:
    """Points (seconds, value), drawn as steps or straight; `class_` is its colour."""

    name: str
    class_: str
    points: Sequence[tuple[float, float]]
    steps: bool = False


@dataclass(frozen=True, slots=True)
class Band:
    """A time that is marked, in seconds."""

    start: float
    end: float
    name: str


def time_chart(
    label: str, unit: str, seconds: float, lines: Sequence[Line], bands: Sequence[Band] = ()
) -> Markup:
    """All lines on one scale from 0."""
    most = max((value for one in lines for _, value in one.points), default=1.0)
    across = linear_scale(seconds / 60, _LEFT, _WIDTH - _RIGHT)
    up = linear_scale(max(most, 1e-9), _HEIGHT - _BOTTOM, _TOP)
    marked = [_band(one, across) for one in bands]
    drawn = [_line(one, across, up) for one in lines]
    return picture(_WIDTH, _HEIGHT, label, *marked, *_frame(across, up, unit), *drawn)


def _band(band: Band, across: LinearScale) -> Markup:
    left, right = across.at(band.start / 60), across.at(band.end / 60)
    return box(
        left, _TOP, right - left, _HEIGHT - _BOTTOM - _TOP, "beyond", element("title", band.name)
    )


def _frame(across: LinearScale, up: LinearScale, unit: str) -> list[Markup]:
    found = []
    for tick in across.ticks:
        x = across.at(tick)
        found.append(text(number(tick), x, up.start + 16, class_="tick", anchor="middle"))
    for tick in up.ticks:
        y = up.at(tick)
        found += [
            line(across.start, y, across.end, y, "grid"),
            text(number(tick), across.start - 6, y + 4, class_="tick", anchor="end"),
        ]
    middle = (across.start + across.end) / 2
    found.append(text(f"minutes; {unit}", middle, up.start + 36, class_="label", anchor="middle"))
    return found


def _line(one: Line, across: LinearScale, up: LinearScale) -> Markup:
    shown: list[tuple[float, float]] = []
    for seconds, value in one.points:
        x, y = across.at(seconds / 60), up.at(value)
        if one.steps and shown:
            shown.append((x, shown[-1][1]))
        shown.append((x, y))
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in shown)
    return element("polyline", element("title", one.name), points=points, class_=one.class_)
