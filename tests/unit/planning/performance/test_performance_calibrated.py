"""Constants corrected by a profile: real measurements, and runs of an engine that is off."""

from dataclasses import replace
from pathlib import Path

import pytest

from rayserve_par.errors import RefusedError
from rayserve_par.hardware import gpu_by_name
from rayserve_par.hardware.profile import EngineRun, Profile
from rayserve_par.hardware.profile_json import profile_from_json
from rayserve_par.model import known_model
from rayserve_par.planning.layout import Layout
from rayserve_par.planning.performance import predictor, shipped_constants
from rayserve_par.planning.performance.calibrated import calibrated

# Written by `rayserve-par calibrate --skip-engine` on a host with two H200s, 2026-11-23.
MEASURED = Path(__file__).with_name("h200x2_profile.json")
MODEL = "meta-llama/Llama-3.1-8B-Instruct"
H200 = gpu_by_name("H200")


def engine_run(host: float = 1.0, memory: float = 1.0) -> EngineRun:
    """A run of an engine whose host takes `host` times as long and memory is `memory` as fast."""
    shipped = shipped_constants()
    vllm = shipped.engine("vllm")
    slower = replace(
        vllm,
        kernel_seconds=vllm.kernel_seconds * host,
        step_seconds=vllm.step_seconds * host,
        sequence_seconds=vllm.sequence_seconds * host,
    )
    off = replace(
        shipped,
        hbm_efficiency=shipped.hbm_efficiency * memory,
        kv_hbm_efficiency=shipped.kv_hbm_efficiency * memory,
        engines={**shipped.engines, "vllm": slower},
    )
    found = predictor(known_model(MODEL), H200, Layout(), constants=off)
    batches = (1, 8, 32, 128)
    return EngineRun(
        model=MODEL,
        precision="bf16",
        tp=1,
        ep=1,
        prompt_tokens=1024,
        prefill_seconds_by_prompt_tokens=((7168, found.prefill_seconds(7168)),),
        tpot_seconds_by_batch=tuple(
            (batch, found.decode_time(batch=batch, context_tokens=1024).total) for batch in batches
        ),
    )


def test_a_healthy_host_hardly_changes_the_constants() -> None:
    profile = profile_from_json(MEASURED.read_text(encoding="utf-8"))
    shipped = shipped_constants()
    found = calibrated(shipped, profile, H200, {})
    assert found.hbm_efficiency == pytest.approx(shipped.hbm_efficiency, rel=0.02)
    assert found.gemm_efficiency == pytest.approx(shipped.gemm_efficiency, rel=0.05)
    assert found.link_efficiency == pytest.approx(shipped.link_efficiency, rel=0.1)
    assert found.engines == shipped.engines


@pytest.mark.parametrize(
    ("host", "memory"), [(1.0, 1.0), (1.5, 1.0), (0.7, 1.0), (1.0, 0.8), (1.3, 0.85)]
)
def test_engine_runs_bring_predictions_to_what_was_measured(host: float, memory: float) -> None:
    run = engine_run(host, memory)
    profile = Profile("H200", "vllm 0.25.0", "2026-11-23", engine_runs=(run,))
    model = known_model(MODEL)
    constants = calibrated(shipped_constants(), profile, H200, {MODEL: model})
    found = predictor(model, H200, Layout(), constants=constants)
    for batch, seconds in run.tpot_seconds_by_batch:
        step = found.decode_time(batch=batch, context_tokens=1024).total
        assert step == pytest.approx(seconds, rel=0.03)


def test_only_the_measured_engine_is_corrected() -> None:
    profile = Profile("H200", "vllm 0.25.0", "2026-11-23", engine_runs=(engine_run(1.5),))
    shipped = shipped_constants()
    found = calibrated(shipped, profile, H200, {MODEL: known_model(MODEL)})
    assert found.engine("vllm").kernel_seconds > 1.2 * shipped.engine("vllm").kernel_seconds
    assert found.engine("sglang") == shipped.engine("sglang")


def test_runs_of_unknown_models_are_not_used() -> None:
    profile = Profile("H200", "vllm 0.25.0", "2026-11-23", engine_runs=(engine_run(2.0),))
    assert calibrated(shipped_constants(), profile, H200, {}) == shipped_constants()


def test_a_slow_memory_makes_steps_slower() -> None:
    profile = Profile("H200", "none", "2026-11-23", copy_bytes_per_second=2.1e12)
    found = calibrated(shipped_constants(), profile, H200, {})
    assert found.hbm_efficiency < 0.6 * shipped_constants().hbm_efficiency


def test_a_profile_of_another_gpu_is_refused() -> None:
    profile = Profile("H100", "vllm 0.25.0", "2026-11-23")
    with pytest.raises(RefusedError, match=r"H100.*H200.*calibrate"):
        calibrated(shipped_constants(), profile, H200, {})


def test_the_engine_is_known_in_any_case() -> None:
    run, models = engine_run(1.5), {MODEL: known_model(MODEL)}
    lower, mixed = (
        calibrated(
            shipped_constants(),
            Profile("H200", engine, "2026-11-23", engine_runs=(run,)),
            H200,
            models,
        )
        for engine in ("vllm 0.25", "vLLM 0.25")
    )
    assert mixed == lower


@pytest.mark.parametrize("engine", ["", " "])
def test_a_profile_without_an_engine_is_refused(engine: str) -> None:
    profile = Profile("H200", engine, "2026-11-23", engine_runs=(engine_run(),))
    with pytest.raises(RefusedError, match="names no engine"):
        calibrated(shipped_constants(), profile, H200, {MODEL: known_model(MODEL)})
