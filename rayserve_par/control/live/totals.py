"""What all instances did since the last look, from their sums; and how long requests are. Pure.

Lengths are means that forget over `_MEMORY` requests, starting from what was planned for:

    mean <- (mean x w + sum of the new) / (w + new),   w = min(requests seen, _MEMORY)

The planned lengths count as `_PLANNED` requests, and so do those in their place that an earlier
policy of the application had learned. Context tokens that an engine does not report are
taken as decodes x (ISL + OSL / 2).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from rayserve_par.control.decide.state import Measured, Steps
from rayserve_par.serving.instance_counters import REPORTED, InstanceReport

_MEMORY = 2000.0
_PLANNED = 10.0
_NOTHING = InstanceReport()
_NAMES = 10_000


@dataclass(frozen=True, slots=True)
class Since:
    """What is new since the last look. `shed` are requests that found no room."""

    measured: Measured
    shed: float


class Totals:
    """Remembers each instance's last report."""

    def __init__(self, isl: float, osl: float) -> None:
        self.isl, self.osl = isl, osl
        self._prompts = self._answers = _PLANNED
        self._planned: tuple[float, float] | None = (isl, osl)
        self._last: dict[str, InstanceReport] = {}

    def begin_with(self, isl: float, osl: float) -> None:
        """These lengths in place of the planned ones; only the first call counts."""
        if self._planned is None:
            return
        planned_isl, planned_osl = self._planned
        self._planned = None
        self.isl += (isl - planned_isl) * _PLANNED / self._prompts
        self.osl += (osl - planned_osl) * _PLANNED / self._answers

    def since(self, reports: Mapping[str, InstanceReport], young: Collection[str]) -> Since:
        """What these reports add to the last ones; the first of a `young` instance is all new."""
        total = dict.fromkeys(REPORTED, 0.0)
        for name, report in reports.items():
            last = self._last.get(name)
            if last is None:
                last = _NOTHING if name in young else report
            self._last[name] = report
            for key in REPORTED:
                total[key] += getattr(report, key) - getattr(last, key)
        while len(self._last) > _NAMES:
            del self._last[next(iter(self._last))]
        self._learn_lengths(total)
        return Since(self._measured(total), total["shed"])

    def _learn_lengths(self, new: Mapping[str, float]) -> None:
        # Without tokens the prompts' lengths are not known, so they teach nothing.
        if new["arrived"] > 0 and new["arrived_prompt_tokens"] > 0:
            self.isl = _mean(self.isl, self._prompts, new["arrived_prompt_tokens"], new["arrived"])
            self._prompts = min(_MEMORY, self._prompts + new["arrived"])
        if new["ended"] > 0:
            self.osl = _mean(self.osl, self._answers, new["ended_output_tokens"], new["ended"])
            self._answers = min(_MEMORY, self._answers + new["ended"])

    def _measured(self, new: Mapping[str, float]) -> Measured:
        return Measured(
            ended=int(new["ended"]),
            ttft_seconds=_share(new["ttft_seconds"], new["first_tokens"]),
            tpot_seconds=_share(new["tpot_seconds"], new["paced"]),
            decode_steps=self._steps(new, "decode_step"),
            prefill_steps=self._steps(new, "prefill_step"),
        )

    def _steps(self, new: Mapping[str, float], kind: str) -> Steps:
        decodes = new[f"{kind}_decodes"]
        context = new[f"{kind}_context_tokens"] or decodes * (self.isl + self.osl / 2)
        return Steps(
            count=int(new[f"{kind}s"]),
            seconds=new[f"{kind}_seconds"],
            prompt_tokens=new.get(f"{kind}_prompt_tokens", 0.0),
            decodes=decodes,
            context_tokens=context,
        )


def _mean(mean: float, weight: float, total: float, count: float) -> float:
    return max(1.0, (mean * weight + total) / (weight + count))


def _share(total: float, count: float) -> float | None:
    return total / count if count > 0 else None
