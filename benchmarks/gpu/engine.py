"""The parts `engine-*`: one bare engine of a layout, without a server."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from benchmarks.gpu.cases import ISL_TOKENS, MAX_MODEL_LEN, EngineCase
from benchmarks.gpu.machine import Machine
from rayserve_par.control.calibration.children import MeasurementFailedError
from rayserve_par.control.calibration.engine import (
    CPU_RUN,
    EngineMeasurement,
    loadable,
    measure_engine,
)
from rayserve_par.planning import Layout

RUN = EngineMeasurement(
    prefill_tokens=(ISL_TOKENS, 2048, 7168), prompt_tokens=ISL_TOKENS, max_model_len=MAX_MODEL_LEN
)
_LOGICAL_RUN = replace(CPU_RUN, prefill_tokens=(128,), decode_tokens=4)


def stand_in(layout: Layout) -> str:
    """The tiny model that is run in this layout on logical GPUs."""
    return "tiny-moe" if layout.ep > 1 else "tiny-llama"


def measure(case: EngineCase, machine: Machine) -> dict[str, Any]:
    """Start the engine, and measure its memory and times.

    Raises:
        MeasurementFailedError: it did not start or did not finish.
    """
    layout, on_gpu = case.layout, not machine.is_logical
    name = case.model if on_gpu else stand_in(layout)
    run = RUN if on_gpu else _LOGICAL_RUN
    try:
        with loadable(name) as model:
            found = measure_engine(model, layout.tp, on_gpu, run, case.arguments)
    except MeasurementFailedError as error:
        print(error.details, flush=True)
        raise
    sizes = {"tp": layout.tp, "pp": layout.pp, "dp": layout.dp, "ep": layout.ep}
    return {"model": name, "layout": sizes, **found}
