"""What layouts do to one model, as Markdown: against one GPU, and where a decode step's time goes.

Both set the planner's word beside what was measured, without calibration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from benchmarks.gpu.cases import gpu_of
from benchmarks.gpu.ledger import Record
from benchmarks.gpu.prediction import TPOT, EngineResult, spec_of
from benchmarks.gpu.tables import markdown
from rayserve_par.planning import Layout
from rayserve_par.planning.performance import predictor

_MS = 1e3


def layouts_table(results: Sequence[EngineResult]) -> str:
    """TPOT by batch and tokens/s of a GPU at the largest, each layout's over TP1's of its model.

    Cells are "measured / predicted"; models that were measured in one layout alone are left out.
    """
    measured = [one for one in results if not one.in_profile]
    alone = {one.model: one for one in measured if one.layout.gpus == 1}
    pairs = [
        (alone[one.model], one) for one in measured if one.layout.gpus > 1 and one.model in alone
    ]
    sizes = sorted({size for _, one in pairs for size in _tpots(one)})
    rows = []
    for base, one in pairs:
        before, after = _tpots(base), _tpots(one)
        cells = []
        for size in sizes:
            both = size in before and size in after
            cells.append(_pair(*_ratios(before[size], after[size])) if both else "-")
        largest = max(before.keys() & after.keys())
        slower = _ratios(before[largest], after[largest])
        rate = _pair(*(1 / ratio / one.layout.gpus for ratio in slower))
        rows.append((one.label, *cells, f"{rate} at {largest}"))
    header = ("against TP1", *(f"TPOT at {size}" for size in sizes), "tokens/s of a GPU")
    return markdown(header, rows) if rows else ""


def _tpots(one: EngineResult) -> dict[int, tuple[float, float]]:
    """(measured, predicted) seconds by batch."""
    return {time.size: (time.measured, time.before) for time in one.times if time.what == TPOT}


def _ratios(before: tuple[float, float], after: tuple[float, float]) -> tuple[float, float]:
    return after[0] / before[0], after[1] / before[1]


def _pair(measured: float, predicted: float) -> str:
    return f"{measured:.2f} / {predicted:.2f}"


def steps_table(records: Sequence[Record]) -> str:
    """Milliseconds of a decode step on a GPU, the mean over ranks, and shares of its busy time.

    The planner's share is that of the whole step.
    """
    rows = []
    for record in records:
        found = record.result
        layout = Layout(**found["layout"])
        for batch in found["batches"]:
            ranks = batch["ranks"]
            busy, told, hops, exposed = (
                _mean(ranks, f"{what}_seconds", batch["steps"])
                for what in ("busy", "communication", "hop", "exposed")
            )
            rows.append(
                (
                    f"{found['model'].rsplit('/', 1)[-1]} {layout.label}",
                    str(batch["batch"]),
                    f"{_MS * busy:.2f}",
                    f"{_MS * told:.3f}",
                    f"{_MS * hops:.3f}",
                    f"{(told + hops) / busy:.1%}",
                    f"{exposed / busy:.1%}",
                    _predicted_share(record, layout, batch["batch"], batch["steps"]),
                )
            )
    header = ("engine", "batch", "GPU busy, ms", "collectives, ms", "hops and their waits, ms")
    return markdown((*header, "share of both", "beside no other work", "predicted share"), rows)


def _mean(ranks: Sequence[Mapping[str, Any]], what: str, steps: int) -> float:
    return mean(float(rank[what]) for rank in ranks) / steps


def _predicted_share(record: Record, layout: Layout, batch: int, steps: int) -> str:
    """Of a step at the middle of those that were recorded; nothing on logical GPUs."""
    if record.machine.is_logical:
        return "-"
    model, gpu = spec_of(record.result["model"]), gpu_of(record.machine)
    found = predictor(model, gpu, layout, stages_share_a_node=True)
    context = record.result["prompt_tokens"] + steps / 2
    step = found.decode_time(batch=batch, context_tokens=context)
    return f"{step.communication / step.total:.1%}"
