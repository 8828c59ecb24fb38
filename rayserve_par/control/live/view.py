"""What Ray Serve knows of an application at one look, and how fresh each instance's report is.

Serve keeps every series that a replica recorded with the replica's own clock. A report is as old as
the time since we first saw its time stamp, so that clocks need not agree. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rayserve_par.control.live.history import Arrivals
from rayserve_par.serving.instance_counters import InstanceReport

Samples = Sequence[tuple[float, float]]
ARRIVALS = ("second", "arrived", "arrived_prompt_tokens")


@dataclass(frozen=True, slots=True)
class Reported:
    """One instance's latest report, its time stamp, and its arrivals by time."""

    stamp: float
    latest: InstanceReport
    arrivals: tuple[Arrivals, ...]


@dataclass(frozen=True, slots=True)
class ServeView:
    """`running` are the replicas that Serve calls running, `target` the number it aims at."""

    app: str
    target: int
    running: tuple[str, ...]
    held: float
    reports: Mapping[str, Reported]


def reported(latest: Mapping[str, float], arrivals: Sequence[Samples]) -> Reported | None:
    """What one replica's latest values and its series of `ARRIVALS` say; None without these."""
    if len(arrivals) < len(ARRIVALS) or not all(arrivals):
        return None
    counted = tuple(
        Arrivals(int(second), requests, tokens)
        for (_, second), (_, requests), (_, tokens) in zip(*arrivals, strict=False)
    )
    return Reported(arrivals[0][-1][0], InstanceReport.from_floats(latest), counted)


class Freshness:
    """When each instance's report was new."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[float, float]] = {}

    def look(self, view: ServeView, now_seconds: float) -> dict[str, float]:
        """Age in seconds of each running instance's report, or of its silence."""
        seen = {}
        for name in view.running:
            report = view.reports.get(name)
            stamp = float("-inf") if report is None else report.stamp
            before = self._seen.get(name)
            same = before is not None and before[0] == stamp
            seen[name] = before if same and before is not None else (stamp, now_seconds)
        self._seen = seen
        return {name: now_seconds - since for name, (_, since) in seen.items()}
