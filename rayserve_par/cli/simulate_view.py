"""The table of a simulation's results."""

from __future__ import annotations

from dataclasses import dataclass

from rich.table import Table

from rayserve_par.control.simulate.figures import Figures
from rayserve_par.control.simulate.oracle import Oracle
from rayserve_par.control.simulate.simulator import Outcome
from rayserve_par.control.simulate.study import Workload

COLUMNS = (
    "policy",
    "within target",
    "TTFT p50",
    "p95",
    "p99",
    "TPOT p50",
    "p99",
    "GPU-hours",
    "of oracle",
    "changes",
)


@dataclass(frozen=True, slots=True)
class Results:
    """All that was simulated."""

    ours: Figures
    outcome: Outcome
    baselines: tuple[tuple[str, Figures], ...]
    oracle: Oracle | None

    @property
    def oracle_gpu_hours(self) -> float | None:
        """GPU-hours of the oracle, where it was searched."""
        return None if self.oracle is None else self.oracle.outcome.gpu_seconds / 3600


def rows(results: Results) -> tuple[tuple[str, ...], ...]:
    """A row for the policy and each baseline, and one for the oracle."""
    found = [_row(one, results.oracle_gpu_hours) for one in _all(results)]
    if results.oracle_gpu_hours is not None:
        dashes = ("",) * 6
        found.append(("oracle", *dashes, f"{results.oracle_gpu_hours:.2f}", "1.00", ""))
    return tuple(found)


def _all(results: Results) -> tuple[Figures, ...]:
    return (results.ours, *(one for _, one in results.baselines))


def _row(one: Figures, oracle_hours: float | None) -> tuple[str, ...]:
    ttft, tpot = one.outside.ttft, one.outside.tpot
    return (
        one.name,
        f"{one.outside.attainment:.2%}",
        *(_seconds(value) for value in ttft),
        _milliseconds(tpot[0]),
        _milliseconds(tpot[2]),
        f"{one.gpu_hours:.2f}",
        "" if oracle_hours is None else f"{one.gpu_hours / oracle_hours:.2f}",
        str(len(one.scale_events)),
    )


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f} s"


def _milliseconds(value: float | None) -> str:
    return "" if value is None else f"{1e3 * value:.1f} ms"


def note(workload: Workload, results: Results) -> str:
    """What is counted apart, in a line."""
    ours = results.ours
    left = ours.requests - ours.outside.requests
    steps = len(workload.steps)
    return (
        f"{left:,} of {ours.requests:,} requests ({left / ours.requests:.1%}) came within one "
        f"start of {steps} unannounced {'step' if steps == 1 else 'steps'} and are counted apart; "
        f"of all requests {ours.everything.attainment:.2%} were within the target, "
        f"{ours.everything.lost:,} were lost."
    )


def render(workload: Workload, results: Results) -> Table:
    """The table, with the note below."""
    table = Table(box=None, pad_edge=False, caption=note(workload, results), caption_justify="left")
    for name in COLUMNS:
        table.add_column(name, justify="left" if name == "policy" else "right")
    for row in rows(results):
        table.add_row(*row)
    return table
