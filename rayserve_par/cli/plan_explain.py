"""Every predicted time of a plan down to its formula, with the numbers put in.

The formulas are those of planning/performance (steady_state.py, step.py); C is the streams of a
DP rank that are in a step, which with PP is one micro-batch of them.
"""

from __future__ import annotations

from collections.abc import Iterator

from rayserve_par.cli.plan_numbers import number
from rayserve_par.planning.performance import Constants, shipped_constants
from rayserve_par.planning.plan import Plan

_ENGINE = "vllm"


def time_lines(plan: Plan, constants: Constants | None = None) -> Iterator[str]:
    """TPOT, TTFT and throughput of one instance; `constants` are those the plan was made with."""
    found = constants or shipped_constants()
    point, layout, osl = plan.point, plan.layout, plan.workload.osl
    engine = found.engine(_ENGINE)
    step, prefill = 1e3 * point.decode.total, 1e3 * point.prefill_seconds
    batch = max(1.0, point.running / layout.dp / layout.pp)
    yield from _point_lines(plan, batch)
    yield from _step_lines(plan)
    yield f"prefill of one prompt of {plan.workload.isl:,} tokens p = {prefill:.2f} ms"
    wave = engine.wave_share
    felt = found.interference * (1 - wave / 2) * prefill * batch / osl
    yield (
        "TPOT = d + interference x (1 - wave share / 2) x p x C / OSL = "
        f"{step:.2f} + {found.interference:.3g} x (1 - {wave:.3g} / 2) x {prefill:.2f} x {batch:g} "
        f"/ {osl:,} = {step:.2f} + {felt:.2f} = {1e3 * point.tpot_seconds:.2f} ms"
    )
    first = 1e3 * found.first_token_seconds
    wait, queue = engine.admission_steps * step, wave * (batch - 1) / 2 * prefill
    yield (
        "TTFT = first token + p + admission steps x d + wave share x (C - 1) / 2 x p = "
        f"{first:.2f} + {prefill:.2f} + {engine.admission_steps:.3g} x {step:.2f} + "
        f"{wave:.3g} x {(batch - 1) / 2:g} x {prefill:.2f} = {first:.2f} + "
        f"{prefill:.2f} + {wait:.2f} + {queue:.2f} = {1e3 * point.ttft_seconds:.2f} ms"
    )
    seconds = point.ttft_seconds + (osl - 1) * point.tpot_seconds
    yield (
        f"tokens/s = streams x OSL / (TTFT + (OSL - 1) x TPOT) = {point.streams:g} x {osl:,} / "
        f"{seconds:.3f} s = {number(point.tokens_per_second)}, / {point.gpus} GPUs = "
        f"{number(point.tokens_per_second_per_gpu)} tokens/s/GPU"
    )
    error = plan.typical_error
    yield (
        f"typical error: TPOT {error.tpot:.0%}, TTFT {error.ttft:.0%} (median over models that "
        "the constants were fitted without)"
    )


def _point_lines(plan: Plan, batch: float) -> Iterator[str]:
    point, layout = plan.point, plan.layout
    split = []
    if layout.dp > 1:
        split.append(f"{layout.dp} DP ranks")
    if layout.pp > 1:
        split.append(f"{layout.pp} micro-batches (one per stage)")
    by = f" / {' / '.join(split)}" if split else ""
    yield f"at {plan.workload.label}: {point.streams:g} streams"
    yield f"C = {point.running:g} running{by} = {batch:g} sequences in a step"


def _step_lines(plan: Plan) -> Iterator[str]:
    time = plan.point.decode
    parts = {
        "dense": time.dense,
        "experts": time.experts,
        "attention": time.attention,
        "communication": time.communication,
        "launch": time.launch,
        "host": time.host,
    }
    shown = " + ".join(f"{name} {1e3 * seconds:.2f}" for name, seconds in parts.items() if seconds)
    yield f"decode step d = {shown} = {1e3 * time.total:.2f} ms"
