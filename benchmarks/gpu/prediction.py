"""What the planner says of an engine that was measured, from its layout and arguments alone.

Before calibration with the shipped constants; after it with those that a profile corrects. A
decode step is predicted at the middle of those that were timed: prompt + half of the decoded
tokens. Memory needs no calibration. An error is predicted / measured - 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from benchmarks.gpu.cases import gpu_of
from benchmarks.gpu.engine import RUN
from benchmarks.gpu.ledger import Record
from benchmarks.gpu.machine import Machine
from rayserve_par.hardware import Profile
from rayserve_par.model.spec import ModelSpec
from rayserve_par.planning import Layout
from rayserve_par.planning.legality import split_of
from rayserve_par.planning.performance import Constants, predictor, shipped_constants
from rayserve_par.planning.performance.calibrated import calibrated
from rayserve_par.serving.model_store.locate import locate_model
from rayserve_par.sizing import EngineOptions, worst_rank_memory

PREFILL, TPOT = "prefill", "TPOT"


@dataclass(frozen=True, slots=True)
class Compared:
    """One measured number and what was predicted; `what` says of which kind, `size` how large.

    Seconds for prefill and TPOT, `size` in prompt tokens or requests of the batch.
    """

    what: str
    size: int
    measured: float
    before: float
    after: float | None

    @property
    def error_before(self) -> float:
        """With the shipped constants."""
        return self.before / self.measured - 1

    @property
    def error_after(self) -> float | None:
        """With the profile; None where there is none."""
        return None if self.after is None else self.after / self.measured - 1


@dataclass(frozen=True, slots=True)
class EngineResult:
    """One engine: memory measured and predicted, in bytes and tokens, and its times."""

    model: str
    layout: Layout
    weight_bytes: float
    predicted_weight_bytes: float
    kv_tokens: int
    predicted_kv_tokens: int
    start_seconds: float
    times: tuple[Compared, ...]
    in_profile: bool

    @property
    def label(self) -> str:
        """Model and layout."""
        return f"{self.model.rsplit('/', 1)[-1]} {self.layout.label}"


def spec_of(model: str) -> ModelSpec:
    """A model whose config is shipped."""
    return locate_model(model, prepare=False).spec


def calibrated_constants(profile: Profile, machine: Machine) -> Constants:
    """The shipped constants, corrected as `plan --profile` corrects them."""
    models = {run.model: spec_of(run.model) for run in profile.engine_runs}
    return calibrated(shipped_constants(), profile, gpu_of(machine), models)


def engine_result(record: Record, profile: Profile | None) -> EngineResult:
    """An engine's record beside its prediction."""
    found = record.result
    model, layout = spec_of(found["model"]), Layout(**found["layout"])
    gpu = gpu_of(record.machine)
    memory = worst_rank_memory(model, gpu, split_of(layout), _options(found))
    runs = profile.engine_runs if profile else ()
    name, version = found["engine"].split()
    assert version, "an engine is named with its release"
    before = predictor(model, gpu, layout, engine=name, stages_share_a_node=True)
    after = None
    if profile is not None:
        constants = calibrated_constants(profile, record.machine)
        after = predictor(
            model, gpu, layout, engine=name, stages_share_a_node=True, constants=constants
        )
    context = found["prompt_tokens"] + RUN.decode_tokens / 2
    times = [
        Compared(
            PREFILL, tokens, seconds, before.prefill_seconds(tokens),
            after and after.prefill_seconds(tokens),
        )
        for tokens, seconds in found["prefill_seconds"]
    ] + [
        Compared(
            TPOT, batch, seconds,
            before.decode_time(batch=batch, context_tokens=context).total,
            after and after.decode_time(batch=batch, context_tokens=context).total,
        )
        for batch, seconds in found["tpot_seconds"]
    ]  # fmt: skip
    return EngineResult(
        model=found["model"],
        layout=layout,
        weight_bytes=max(found["weight_bytes"]),
        predicted_weight_bytes=memory.weight_bytes,
        kv_tokens=found["kv_tokens"],
        predicted_kv_tokens=memory.kv_tokens,
        start_seconds=found["start_seconds"],
        times=tuple(times),
        in_profile=any(
            (run.model, run.tp, run.ep) == (found["model"], layout.tp, layout.ep) for run in runs
        ),
    )


def _options(found: Mapping[str, Any]) -> EngineOptions:
    """The engine's own arguments, as it told them."""
    major, minor = found["engine"].split()[1].split(".")[:2]
    return EngineOptions(
        gpu_memory_utilization=found["gpu_memory_utilization"],
        max_num_batched_tokens=found["max_num_batched_tokens"],
        max_num_seqs=found["max_num_seqs"],
        max_model_len=found["max_model_len"],
        version=(int(major), int(minor)),
    )


def mean_errors(results: Iterable[EngineResult], what: str) -> tuple[int, float, float | None]:
    """(numbers, mean absolute error before, after calibration) of all times of a kind.

    Raises:
        ValueError: there are none.
    """
    times = [time for one in results for time in one.times if time.what == what]
    if not times:
        raise ValueError(f"no {what} was measured")
    after = [abs(time.error_after) for time in times if time.error_after is not None]
    before = mean(abs(time.error_before) for time in times)
    return len(times), before, mean(after) if after else None


def unseen(results: Sequence[EngineResult]) -> list[EngineResult]:
    """The engines that the profile was not made of."""
    return [one for one in results if not one.in_profile]
