"""Constants corrected by a profile that was measured on a cluster's own GPUs.

The shipped constants stand for engines on healthy GPUs. A profile says how this cluster's differ:

    e_hbm, e_expert_hbm, e_kv  x  copy bandwidth / data sheet   against 0.895 on the reference
    e_gemm, e_expert_gemm      x  bf16 product / data sheet     against 0.781
    e_link                     x  bus bandwidth / link          against 0.634

The reference is the H200 whose engines the constants were fitted to (4,295 GB/s, 772 TFLOP/s, NCCL
2.28 over NVLink). Engine runs say more than these and are used after them: three factors, on
launching and host time, on memory and on compute, are searched in turn in steps of 2% for the
least sum of absolute logarithms of predicted / measured; none leaves [1/2, 2].
Left out: how long NCCL takes for small messages (two measurements on alike hosts gave 23 and 33
us, and engines send small messages by kernels of their own); runs of models that the caller does
not know; prefills of short prompts (< 2,048 tokens), where an offline engine's own host time
weighs too much.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import exp, log
from statistics import median

from rayserve_par.errors import RefusedError
from rayserve_par.hardware.gpu import Gpu
from rayserve_par.hardware.profile import CollectivePoint, Profile
from rayserve_par.model.spec import ModelSpec
from rayserve_par.planning.layout import Layout
from rayserve_par.planning.performance.constants import Constants
from rayserve_par.planning.performance.predict import predictor

_REFERENCE_COPY_SHARE = 0.895
_REFERENCE_MATMUL_SHARE = 0.781
_REFERENCE_BUS_SHARE = 0.634
_LARGE_MESSAGE_BYTES = 64 * 1024 * 1024
_SHORT_PROMPT_TOKENS = 2048
_STEP, _LIMIT, _ROUNDS = 0.02, log(2), 6


def calibrated(
    constants: Constants, profile: Profile, gpu: Gpu, models: Mapping[str, ModelSpec]
) -> Constants:
    """The constants for the GPUs that `profile` was measured on.

    `models` are those of the profile's engine runs by name; runs of others are not used.
    Raises RefusedError where the profile is of another GPU or names no engine.
    """
    if profile.gpu != gpu.name:
        raise RefusedError(
            f"the profile was measured on {profile.gpu}, and the cluster has {gpu.name}. Measure "
            "there (rayserve-par calibrate), or leave --profile out."
        )
    engine = _engine_name(profile)
    found = _by_links(_by_device(constants, profile, gpu), profile, gpu)
    errors = _run_errors(profile, gpu, models, engine)
    return _by_runs(found, errors, engine) if errors else found


def _engine_name(profile: Profile) -> str:
    """The engine by the name that the constants know: "vllm" of "vLLM 0.25.0"."""
    words = profile.engine.lower().split()
    if not words:
        raise RefusedError(
            'the profile names no engine: its "engine" is empty. Write name and version, '
            'such as "vllm 0.25.0".'
        )
    return words[0]


def _by_device(constants: Constants, profile: Profile, gpu: Gpu) -> Constants:
    memory = compute = 1.0
    if profile.copy_bytes_per_second is not None:
        share = profile.copy_bytes_per_second / gpu.hbm_bytes_per_second
        memory = share / _REFERENCE_COPY_SHARE
    flops = dict(profile.matmul_flops).get(16)
    if flops is not None:
        compute = flops / gpu.bf16_flops / _REFERENCE_MATMUL_SHARE
    return _scaled(constants, memory=memory, compute=compute)


def _scaled(constants: Constants, *, memory: float = 1.0, compute: float = 1.0) -> Constants:
    return replace(
        constants,
        hbm_efficiency=constants.hbm_efficiency * memory,
        expert_hbm_efficiency=constants.expert_hbm_efficiency * memory,
        kv_hbm_efficiency=constants.kv_hbm_efficiency * memory,
        gemm_efficiency=constants.gemm_efficiency * compute,
        expert_gemm_efficiency=constants.expert_gemm_efficiency * compute,
    )


def _by_links(constants: Constants, profile: Profile, gpu: Gpu) -> Constants:
    large = [
        _bus_share(point, gpu)
        for point in profile.collectives
        if point.op == "all_reduce" and point.message_bytes >= _LARGE_MESSAGE_BYTES
    ]
    link = median(large) / _REFERENCE_BUS_SHARE if large else 1.0
    return replace(constants, link_efficiency=constants.link_efficiency * link)


def _bus_share(point: CollectivePoint, gpu: Gpu) -> float:
    sent = 2 * (1 - 1 / point.ranks) * point.message_bytes
    return sent / point.seconds / gpu.link_bytes_per_second


Errors = Callable[[Constants], float]


def _run_errors(
    profile: Profile, gpu: Gpu, models: Mapping[str, ModelSpec], engine: str
) -> Errors | None:
    """The sum of absolute logarithmic errors over all runs of known models; None without any."""
    runs = [run for run in profile.engine_runs if run.model in models]
    if not runs:
        return None

    def errors(constants: Constants) -> float:
        total = 0.0
        for run in runs:
            layout = Layout(tp=run.tp, ep=run.ep)
            found = predictor(models[run.model], gpu, layout, engine=engine, constants=constants)
            for batch, seconds in run.tpot_seconds_by_batch:
                step = found.decode_time(batch=batch, context_tokens=run.prompt_tokens)
                total += abs(log(step.total / seconds))
            for tokens, seconds in run.prefill_seconds_by_prompt_tokens:
                if tokens >= _SHORT_PROMPT_TOKENS:
                    total += abs(log(found.prefill_seconds(tokens) / seconds))
        return total

    return errors


def _by_runs(constants: Constants, errors: Errors, engine: str) -> Constants:
    def corrected(factors: tuple[float, float, float]) -> Constants:
        host, memory, compute = (exp(value) for value in factors)
        own = constants.engine(engine)
        slower = replace(
            own,
            kernel_seconds=own.kernel_seconds * host,
            step_seconds=own.step_seconds * host,
            sequence_seconds=own.sequence_seconds * host,
        )
        scaled = _scaled(constants, memory=memory, compute=compute)
        return replace(scaled, engines={**constants.engines, engine: slower})

    best, least = (0.0, 0.0, 0.0), errors(corrected((0.0, 0.0, 0.0)))
    steps = [n * _STEP for n in range(-int(_LIMIT / _STEP), int(_LIMIT / _STEP) + 1)]
    for _ in range(_ROUNDS):
        before = least
        for index in range(3):
            for value in steps:
                tried = (*best[:index], value, *best[index + 1 :])
                error = errors(corrected((tried[0], tried[1], tried[2])))
                if error < least:
                    best, least = (tried[0], tried[1], tried[2]), error
        if least == before:
            break
    return corrected(best)
