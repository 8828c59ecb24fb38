"""What it costs to trust the predictions when choosing among measured layouts.

group    rows of the same model, GPU, engine, precision, ISL and OSL with two or more layouts
limit    TPOT of 10, 20, 30, 50 and 100 ms; one case per group and limit that any row meets
speed    concurrency x OSL / (TTFT + (OSL - 1) x TPOT) / GPUs      tokens per second and GPU
best     the highest measured speed under the limit
ours     the layout of the row with the highest predicted speed among those predicted to be
         under the limit; where none is, of the row with the lowest predicted TPOT
regret   1 - (the highest measured speed of that layout under the limit, 0 if none) / best
top-1    the share of cases without regret
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rayserve_par.planning.layout import Layout

TPOT_LIMITS_MS = (10.0, 20.0, 30.0, 50.0, 100.0)
_SAME = ("model", "gpu", "engine", "precision", "isl", "osl")


@dataclass(frozen=True, slots=True)
class Point:
    """One served row: its layout, what was measured, and what was predicted for it."""

    group: tuple[object, ...]
    layout: Layout
    tpot_ms: float
    speed: float
    predicted_tpot_ms: float
    predicted_speed: float


@dataclass(frozen=True, slots=True)
class Case:
    """A group at one limit. `ours` and `best` are layouts."""

    group: tuple[object, ...]
    limit_ms: float
    ours: Layout
    best: Layout
    regret: float


def speed_per_gpu(
    *, streams: float, osl: float, ttft_ms: float, tpot_ms: float, gpus: int
) -> float:
    """Output tokens per second and GPU of a closed loop of streams."""
    request_seconds = (ttft_ms + (osl - 1) * tpot_ms) / 1e3
    return streams * osl / request_seconds / gpus


def point_of(fields: Mapping[str, Any], layout: Layout, predicted: Mapping[str, Any]) -> Point:
    """A row as a point; its group is told by the row's own words."""
    shape = {"streams": fields["concurrency"], "osl": fields["osl"], "gpus": layout.gpus}
    times = {key: predicted[f"predicted_{key}"] for key in ("ttft_ms", "tpot_ms")}
    measured = {key: fields[key] for key in ("ttft_ms", "tpot_ms")}
    return Point(
        group=tuple(fields.get(key) for key in _SAME),
        layout=layout,
        tpot_ms=measured["tpot_ms"],
        speed=speed_per_gpu(**shape, **measured),
        predicted_tpot_ms=times["tpot_ms"],
        predicted_speed=speed_per_gpu(**shape, **times),
    )


def cases(points: Iterable[Point]) -> list[Case]:
    """Every group with a choice, at every limit that a measured row of it meets."""
    groups: defaultdict[tuple[object, ...], list[Point]] = defaultdict(list)
    for point in points:
        groups[point.group].append(point)
    found = []
    for members in groups.values():
        if len({point.layout for point in members}) > 1:
            found += [case for limit in TPOT_LIMITS_MS for case in _case(members, limit)]
    return found


def _case(points: list[Point], limit_ms: float) -> list[Case]:
    within = [point for point in points if point.tpot_ms <= limit_ms]
    if not within:
        return []
    best = max(within, key=lambda point: point.speed)
    expected = [point for point in points if point.predicted_tpot_ms <= limit_ms]
    if expected:
        ours = max(expected, key=lambda point: point.predicted_speed).layout
    else:
        ours = min(points, key=lambda point: point.predicted_tpot_ms).layout
    reached = max((point.speed for point in within if point.layout == ours), default=0.0)
    return [Case(points[0].group, limit_ms, ours, best.layout, 1 - reached / best.speed)]
