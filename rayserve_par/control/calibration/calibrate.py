"""The measurements of this machine, step by step, and the profile that they make.

    device -> links between all devices -> one engine run -> Profile

Every step frees the devices before the next begins. Left out: links between nodes; a profile is of
one node's GPUs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rayserve_par.control.calibration.children import run_ranks
from rayserve_par.control.calibration.collectives import (
    CPU_MESSAGES,
    GPU_MESSAGES,
    measure_collectives,
)
from rayserve_par.control.calibration.engine import CPU_RUN, GPU_RUN, loadable, measure_engine
from rayserve_par.control.calibration.measure import (
    CPU_SIZES,
    GPU_SIZES,
    local_gpus,
    measure_device,
)
from rayserve_par.errors import RefusedError
from rayserve_par.hardware import CollectivePoint, EngineRun, Profile, gpu_by_name
from rayserve_par.model.spec import ModelSpec

# A host without GPUs is measured as two logical ones.
_LOGICAL_GPUS = 2
_LOGICAL_GPU_NAME = "logical-cpu"
_LIMIT_SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class Machine:
    """This machine's devices: GPUs, or logical ones on its CPU."""

    ranks: int
    on_gpu: bool

    @property
    def default_model(self) -> str:
        """A model that needs no network and fits most GPUs (16 GB of weights), or the CPU."""
        return "meta-llama/Llama-3.1-8B-Instruct" if self.on_gpu else "tiny-llama"

    def check_tp(self, tp: int) -> None:
        """Refuse a TP group that this machine cannot hold."""
        if not 1 <= tp <= self.ranks:
            what = "GPUs" if self.on_gpu else "logical GPUs (it has no real one)"
            raise RefusedError(
                f"--tp {tp} needs {tp} GPUs; this machine has {self.ranks} {what}. "
                f"Give --tp 1 to {self.ranks}."
            )


def this_machine() -> Machine:
    """The devices of this machine.

    Raises:
        RefusedError: torch is not installed.
    """
    try:
        gpus = local_gpus()
    except ModuleNotFoundError as error:
        raise RefusedError(
            "Calibration measures with torch, which is not installed here. Install rayserve-par "
            "with [gpu] on a GPU host, with [cpu] elsewhere."
        ) from error
    return Machine(gpus or _LOGICAL_GPUS, on_gpu=gpus > 0)


def run_device(machine: Machine) -> dict[str, Any]:
    """Bandwidth and FLOP/s of the first device; see `measure_device`."""
    sizes = GPU_SIZES if machine.on_gpu else CPU_SIZES
    arguments = (machine.on_gpu, sizes)
    found: dict[str, Any] = run_ranks(
        "The device measurement", measure_device, 1, arguments, limit_seconds=_LIMIT_SECONDS
    )
    return found


def run_collectives(machine: Machine) -> list[dict[str, Any]]:
    """Times of the collectives between all devices; none where there is only one."""
    if machine.ranks < 2:
        return []
    sizes = GPU_MESSAGES if machine.on_gpu else CPU_MESSAGES
    rows: list[dict[str, Any]] = run_ranks(
        "The link measurement",
        measure_collectives,
        machine.ranks,
        (machine.ranks, machine.on_gpu, sizes),
        limit_seconds=_LIMIT_SECONDS,
        environment={} if machine.on_gpu else {"OMP_NUM_THREADS": "1"},
    )
    return rows


def run_engine(machine: Machine, name: str, tp: int) -> tuple[EngineRun, str]:
    """One engine run, and the engine's name and version."""
    with loadable(name) as model:
        found = measure_engine(model, tp, machine.on_gpu, GPU_RUN if machine.on_gpu else CPU_RUN)
        return engine_run(model.spec, name, tp, found), str(found["engine"])


def engine_run(spec: ModelSpec, name: str, tp: int, found: Mapping[str, Any]) -> EngineRun:
    """The profile's entry of an engine run's times."""
    return EngineRun(
        model=name,
        precision=spec.weight_format.name,
        tp=tp,
        ep=1,
        prompt_tokens=found["prompt_tokens"],
        prefill_seconds_by_prompt_tokens=tuple((p, s) for p, s in found["prefill_seconds"]),
        tpot_seconds_by_batch=tuple((b, s) for b, s in found["tpot_seconds"]),
    )


def profile_of(
    device: Mapping[str, Any],
    collectives: Sequence[Mapping[str, Any]],
    run: EngineRun | None,
    *,
    engine: str,
    measured_at: str,
) -> Profile:
    """The profile of what the steps found; `measured_at` is ISO 8601."""
    return Profile(
        gpu=_gpu_name(device["name"]),
        engine=engine,
        measured_at=measured_at,
        copy_bytes_per_second=device["copy_bytes_per_second"],
        matmul_flops=tuple((bits, flops) for bits, flops in device["matmul_flops"]),
        collectives=tuple(CollectivePoint(**row) for row in collectives),
        engine_runs=(run,) if run else (),
    )


def _gpu_name(torch_name: str) -> str:
    """The catalogue's name of a device; the driver's where the catalogue does not have it."""
    if torch_name == "cpu":
        return _LOGICAL_GPU_NAME
    try:
        return gpu_by_name(torch_name).name
    except RefusedError:
        return torch_name
