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
from rayserve_par.hardware import EngineRun, Profile
from rayserve_par.model.spec import ModelSpec
from rayserve_par.planning import Layout
from rayserve_par.planning.legality import split_of
from rayserve_par.planning.performance import Constants, Predictor, predictor, shipped_constants
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
class Memory:
    """Weights of the fullest rank and KV tokens of a DP rank, as measured or as predicted."""

    weight_bytes: float
    kv_tokens: int


@dataclass(frozen=True, slots=True)
class EngineResult:
    """One engine: its times beside those predicted, and its memory where it was asked for.

    `in_profile`: the profile was made of these very times.
    """

    model: str
    layout: Layout
    times: tuple[Compared, ...]
    in_profile: bool = False
    memory: Memory | None = None
    predicted_memory: Memory | None = None
    start_seconds: float | None = None

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
    layout = Layout(**found["layout"])
    run = EngineRun(
        model=found["model"],
        precision="",
        tp=layout.tp,
        ep=layout.ep,
        prompt_tokens=found["prompt_tokens"],
        prefill_seconds_by_prompt_tokens=tuple((p, s) for p, s in found["prefill_seconds"]),
        tpot_seconds_by_batch=tuple((b, s) for b, s in found["tpot_seconds"]),
    )
    rank = worst_rank_memory(
        spec_of(run.model), gpu_of(record.machine), split_of(layout), _options(found)
    )
    return EngineResult(
        model=run.model,
        layout=layout,
        times=_times(run, layout, record.machine, profile),
        memory=Memory(max(found["weight_bytes"]), found["kv_tokens"]),
        predicted_memory=Memory(rank.weight_bytes, rank.kv_tokens),
        start_seconds=found["start_seconds"],
    )


def profile_result(run: EngineRun, machine: Machine, profile: Profile) -> EngineResult:
    """The profile's own engine run beside its prediction, which has seen it."""
    layout = Layout(tp=run.tp, ep=run.ep)
    times = _times(run, layout, machine, profile)
    return EngineResult(run.model, layout, times, in_profile=True)


def _times(
    run: EngineRun, layout: Layout, machine: Machine, profile: Profile | None
) -> tuple[Compared, ...]:
    model, gpu = spec_of(run.model), gpu_of(machine)
    before = predictor(model, gpu, layout, stages_share_a_node=True)
    after = None
    if profile is not None:
        constants = calibrated_constants(profile, machine)
        after = predictor(model, gpu, layout, stages_share_a_node=True, constants=constants)
    context = run.prompt_tokens + RUN.decode_tokens / 2

    def step(found: Predictor, batch: int) -> float:
        return found.decode_time(batch=batch, context_tokens=context).total

    prefills = [
        Compared(
            PREFILL,
            tokens,
            seconds,
            before.prefill_seconds(tokens),
            after.prefill_seconds(tokens) if after else None,
        )
        for tokens, seconds in run.prefill_seconds_by_prompt_tokens
    ]
    steps = [
        Compared(TPOT, batch, seconds, step(before, batch), step(after, batch) if after else None)
        for batch, seconds in run.tpot_seconds_by_batch
    ]
    return (*prefills, *steps)


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
    """The engines of models and layouts that the profile was not made of."""
    seen = {(one.model, one.layout) for one in results if one.in_profile}
    return [one for one in results if (one.model, one.layout) not in seen]
