"""Plots as SVG files that stand alone: TPOT by batch, and memory around a killed engine."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from benchmarks.gpu.prediction import TPOT, EngineResult
from rayserve_par.cli.plan_html.scale import LinearScale, LogScale, linear_scale, log_scale
from rayserve_par.cli.plan_html.svg import box, element, line, picture, text
from rayserve_par.cli.plan_numbers import number

_WIDTH, _HEIGHT = 860.0, 420.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 64.0, 250.0, 16.0, 48.0
_COLOURS = ("#0b6e99", "#b5530b", "#3f7d20", "#8a3ab9", "#a3123f", "#5b5b5b", "#007a6e", "#6b5b00")
_STYLE = """
text { font: 12px sans-serif; fill: #333 } .tick { fill: #666 } .grid { stroke: #e3e3e3 }
polyline { fill: none; stroke-width: 2 } .mark { stroke: #333; stroke-dasharray: 3 3 }
""".strip()
_MIB_PER_GIB = 1024


def tpot_chart(results: Sequence[EngineResult]) -> Markup:
    """Measured as dots, predicted before calibration dashed, after it solid; both axes by log."""
    times = [time for one in results for time in one.times if time.what == TPOT]
    shown = [value for t in times for value in (t.measured, t.before, t.after) if value]
    across = log_scale(1, max(t.size for t in times), _LEFT, _WIDTH - _RIGHT)
    up = log_scale(1e3 * min(shown), 1e3 * max(shown), _HEIGHT - _BOTTOM, _TOP)
    drawn = [
        part
        for place, one in enumerate(results)
        for part in _engine(one, _COLOURS[place % len(_COLOURS)], place, across, up)
    ]
    return _picture(
        "TPOT by batch, measured and predicted",
        *_frame(across, up, "requests in the batch", "ms"),
        *drawn,
    )


def _engine(
    one: EngineResult, colour: str, place: int, across: LogScale, up: LogScale
) -> list[Markup]:
    times = [time for time in one.times if time.what == TPOT]
    lines = [_polyline([(t.size, 1e3 * t.before) for t in times], across, up, colour, "5 4")]
    after = [(t.size, 1e3 * t.after) for t in times if t.after is not None]
    if after:
        lines.append(_polyline(after, across, up, colour))
    dots = [
        element("circle", cx=across.at(t.size), cy=up.at(1e3 * t.measured), r=4.5, fill=colour)
        for t in times
    ]
    y = _TOP + 14 + 20 * place
    left = _WIDTH - _RIGHT + 16
    key = element("circle", cx=left, cy=y - 4, r=4.5, fill=colour)
    return [*lines, *dots, key, text(one.label, left + 12, y)]


def memory_chart(samples: Sequence[tuple[float, int]], served_again_seconds: float) -> Markup:
    """GPU memory in use by seconds since the kill, until the instance serves again."""
    first = min(seconds for seconds, _ in samples)
    last = max(seconds for seconds, _ in samples)
    across = linear_scale(last - first, _LEFT, _WIDTH - _RIGHT)
    most = max(mib for _, mib in samples) / _MIB_PER_GIB
    up = linear_scale(most, _HEIGHT - _BOTTOM, _TOP)
    points = [(seconds - first, mib / _MIB_PER_GIB) for seconds, mib in samples]
    return _picture(
        "GPU memory in use around the kill of an engine",
        *_frame(across, up, "seconds", "GiB"),
        _polyline(points, across, up, _COLOURS[0]),
        *_moment(-first, "killed", across, 0),
        *_moment(served_again_seconds - first, "serves again", across, 1),
    )


def _moment(seconds: float, name: str, across: LinearScale, row: int) -> list[Markup]:
    x = across.at(seconds)
    return [line(x, _TOP, x, _HEIGHT - _BOTTOM, "mark"), text(name, x + 5, _TOP + 12 + 16 * row)]


def _polyline(
    points: Sequence[tuple[float, float]],
    across: LinearScale | LogScale,
    up: LinearScale | LogScale,
    colour: str,
    dashes: str | None = None,
) -> Markup:
    shown = " ".join(f"{across.at(x):.1f},{up.at(y):.1f}" for x, y in points)
    return element("polyline", points=shown, stroke=colour, stroke_dasharray=dashes)


def _frame(
    across: LinearScale | LogScale, up: LinearScale | LogScale, below: str, unit: str
) -> list[Markup]:
    found = []
    for tick in across.ticks:
        x = across.at(tick)
        found.append(line(x, up.start, x, up.end, "grid"))
        found.append(text(number(tick), x, up.start + 18, class_="tick", anchor="middle"))
    for tick in up.ticks:
        y = up.at(tick)
        found.append(line(across.start, y, across.end, y, "grid"))
        found.append(text(number(tick), across.start - 8, y + 4, class_="tick", anchor="end"))
    middle = (across.start + across.end) / 2
    found.append(text(below, middle, up.start + 38, anchor="middle"))
    found.append(text(unit, 8, _TOP + 4))
    return found


def _picture(label: str, *children: Markup) -> Markup:
    ground = box(0, 0, _WIDTH, _HEIGHT, "ground")
    style = element("style", f"{_STYLE} .ground {{ fill: #fff }}")
    return picture(_WIDTH, _HEIGHT, label, style, ground, *children)
