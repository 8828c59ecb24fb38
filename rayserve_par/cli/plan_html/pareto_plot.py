"""The Pareto plot: tokens/s/user against tokens/s/GPU, a curve per layout over its streams.

Both axes are logarithmic: from one stream to full memory a layout's yield grows a hundredfold.

Named and coloured are the layout taken and the best of the others: those on the frontier first,
then in the plan's order; what is left is drawn grey. Left of the TPOT limit a point breaks it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from rayserve_par.cli.plan_html.scale import LogScale, log_scale
from rayserve_par.cli.plan_html.svg import box, element, line, picture, text
from rayserve_par.cli.plan_numbers import ms, number
from rayserve_par.planning.layout import Layout
from rayserve_par.planning.pareto import Curve, frontier
from rayserve_par.planning.performance import OperatingPoint
from rayserve_par.planning.plan import Plan

_WIDTH, _HEIGHT = 860.0, 460.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 72.0, 20.0, 24.0, 52.0
_NAMED = 6
_LABEL_PIXELS = 26.0
GREY = "grey"


@dataclass(frozen=True, slots=True)
class Legend:
    """One named curve and the class of its colour."""

    name: str
    class_: str


@dataclass(frozen=True, slots=True)
class _Axes:
    x: LogScale
    y: LogScale

    def at(self, point: OperatingPoint) -> tuple[float, float]:
        return (
            self.x.at(point.tokens_per_second_per_user),
            self.y.at(point.tokens_per_second_per_gpu),
        )


def classes_of(curves: tuple[Curve, ...]) -> dict[Layout, str]:
    """The colour of every curve; the first curve is the layout taken."""
    best = [layout for layout, _ in frontier(curves)]
    order = [curves[0].layout, *best, *(curve.layout for curve in curves)]
    named = list(dict.fromkeys(order))[: _NAMED + 1]
    found = {layout: f"c{index}" for index, layout in enumerate(named)}
    return {curve.layout: found.get(curve.layout, GREY) for curve in curves}


def legend(curves: tuple[Curve, ...]) -> tuple[Legend, ...]:
    """What the colours mean, in their order."""
    classes = classes_of(curves)
    found = [Legend(one.label, name) for one, name in classes.items() if name != GREY]
    found.sort(key=lambda one: int(one.class_[1:]))
    if GREY in classes.values():
        grey = sum(name == GREY for name in classes.values())
        found.append(Legend(f"{grey} more", GREY))
    return tuple(found)


def pareto_plot(plan: Plan, curves: tuple[Curve, ...]) -> Markup:
    """The whole plot."""
    axes = _axes([plan.point, *(point for curve in curves for point in curve.points)])
    classes = classes_of(curves)
    below = sorted(curves, key=lambda curve: classes[curve.layout] != GREY)
    drawn = [_curve(curve, classes[curve.layout], axes) for curve in below if curve != curves[0]]
    return picture(
        _WIDTH,
        _HEIGHT,
        f"Tokens per second and user against tokens per second and GPU for {plan.model_name}",
        *_limit(plan, axes),
        *_frame(axes),
        *drawn,
        _frontier(curves, axes),
        _curve(curves[0], classes[curves[0].layout], axes, taken=True),
        *_stream_labels(curves[0], plan, axes),
        *_chosen(plan, axes),
    )


def _axes(points: list[OperatingPoint]) -> _Axes:
    users = [point.tokens_per_second_per_user for point in points]
    yields = [point.tokens_per_second_per_gpu for point in points]
    return _Axes(
        log_scale(min(users), max(users), _LEFT, _WIDTH - _RIGHT),
        log_scale(min(yields), max(yields), _HEIGHT - _BOTTOM, _TOP),
    )


def _frame(axes: _Axes) -> list[Markup]:
    left, right, bottom, top = axes.x.start, axes.x.end, axes.y.start, axes.y.end
    found = []
    for tick in axes.x.ticks:
        x = axes.x.at(tick)
        found += [
            line(x, bottom, x, top, "grid"),
            text(number(tick), x, bottom + 18, class_="tick", anchor="middle"),
        ]
    for tick in axes.y.ticks:
        y = axes.y.at(tick)
        found += [
            line(left, y, right, y, "grid"),
            text(number(tick), left - 8, y + 4, class_="tick", anchor="end"),
        ]
    found += [line(left, bottom, right, bottom, "axis"), line(left, bottom, left, top, "axis")]
    middle = (left + right) / 2
    found.append(text("tokens/s per user", middle, bottom + 40, class_="label", anchor="middle"))
    height = (bottom + top) / 2
    found.append(
        element(
            "text",
            "tokens/s per GPU",
            transform=f"translate(18 {height:g}) rotate(-90)",
            class_="label",
            text_anchor="middle",
        )
    )
    return found


def _limit(plan: Plan, axes: _Axes) -> list[Markup]:
    """Where TPOT is above its limit."""
    least = 1 / plan.workload.tpot_limit
    if not axes.x.bottom < least < axes.x.top:
        return []
    x, top, bottom = axes.x.at(least), axes.y.end, axes.y.start
    name = f"TPOT limit {ms(plan.workload.tpot_limit)}"
    return [
        box(axes.x.start, top, x - axes.x.start, bottom - top, "beyond"),
        line(x, top, x, bottom, "limit"),
        text(name, x + 5, top - 8, class_="small"),
    ]


def _path(points: list[tuple[float, float]], class_: str) -> Markup:
    shown = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return element("polyline", points=shown, class_=class_)


def _curve(curve: Curve, class_: str, axes: _Axes, *, taken: bool = False) -> Markup:
    where = [axes.at(point) for point in curve.points]
    weight = " taken" if taken else ""
    dots = [
        element(
            "circle",
            element("title", _said(curve.layout, point)),
            cx=x,
            cy=y,
            r=3.5 if taken else 2.5,
            class_=f"dot {class_}",
        )
        for (x, y), point in zip(where, curve.points, strict=True)
        if class_ != GREY
    ]
    return element("g", _path(where, f"curve {class_}{weight}"), *dots)


def _said(layout: Layout, point: OperatingPoint) -> str:
    return (
        f"{layout.label}, {point.streams:,g} streams: "
        f"{number(point.tokens_per_second_per_user)} tokens/s/user, "
        f"{number(point.tokens_per_second_per_gpu)} tokens/s/GPU, "
        f"TTFT {ms(point.ttft_seconds)}, TPOT {ms(point.tpot_seconds)}"
    )


def _frontier(curves: tuple[Curve, ...], axes: _Axes) -> Markup:
    """As steps: between two of its points only the worse of both is promised."""
    where = [axes.at(point) for _, point in frontier(curves)]
    steps = where[:1]
    for (_, y), (next_x, next_y) in pairwise(where):
        steps += [(next_x, y), (next_x, next_y)] if next_y < y else [(next_x, next_y)]
    return _path(steps, "frontier")


def _stream_labels(curve: Curve, plan: Plan, axes: _Axes) -> list[Markup]:
    """Streams beside the points of the layout taken, where there is room between them."""
    found: list[Markup] = []
    last = axes.at(plan.point)
    for point in curve.points:
        x, y = axes.at(point)
        near = abs(x - last[0]) + abs(y - last[1]) < _LABEL_PIXELS
        chosen = axes.at(plan.point)
        on_chosen = abs(x - chosen[0]) + abs(y - chosen[1]) < _LABEL_PIXELS
        if near or on_chosen:
            continue
        found.append(text(f"{point.streams:,g}", x + 7, y - 6, class_="small halo"))
        last = (x, y)
    return found


def _chosen(plan: Plan, axes: _Axes) -> list[Markup]:
    x, y = axes.at(plan.point)
    right = x > (axes.x.start + axes.x.end) * 0.65
    streams = "1 stream" if plan.point.streams == 1 else f"{plan.point.streams:,g} streams"
    name = f"{plan.layout.label}, {streams}"
    ring = element(
        "circle",
        element("title", _said(plan.layout, plan.point)),
        cx=x,
        cy=y,
        r=8,
        class_="chosen",
    )
    shift, anchor = (-14.0, "end") if right else (14.0, "start")
    return [ring, text(name, x + shift, y + 5, class_="strong halo", anchor=anchor)]
