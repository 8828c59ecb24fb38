"""What a simulation is made from, read at the edge: the trace, the plan, and options."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Literal

from rayserve_par.errors import RefusedError

if TYPE_CHECKING:
    from rayserve_par.control.instance_model.capacity import InstanceModel
    from rayserve_par.control.instance_model.step_times import StepTimes
    from rayserve_par.control.simulate.request import Arrival
    from rayserve_par.control.simulate.scenario import Failure
    from rayserve_par.control.simulate.study import Workload
    from rayserve_par.planning.performance.predict import Predictor
    from rayserve_par.planning.plan import Plan

_LOW, _HIGH = 2.0, 10.0
_BUSIEST_SECONDS = 60
_HEADROOM = 0.9
_ROUNDS, _CLOSE = 6, 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulateOptions:
    """Options of the command, checked where they are used. Limits in seconds."""

    trace: str
    model: str
    cluster: str
    scale: float | None = None
    scaling: Literal["users", "shape"] = "users"
    instances: str | None = None
    start_seconds: float = 60.0
    interval_seconds: float = 2.0
    ttft_seconds: float = 2.0
    tpot_seconds: float = 0.05
    isl: int = 2048
    osl: int = 128
    duration_seconds: float = 3600.0
    least: int = 1
    most: int | None = None
    fail: tuple[str, ...] = ()
    max_num_batched_tokens: int | None = None
    slower: float = 1.0
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Made:
    """A workload, with how it came about in lines for people."""

    workload: Workload
    plan: Plan
    lines: tuple[str, ...]
    factor: float


def make(options: SimulateOptions) -> Made:
    """The workload that the options ask for.

    Raises:
        RefusedError: a trace, model, cluster or number is not valid, or the target is impossible.
    """
    from rayserve_par.control.decide.feasible import LeastTimes, check_target
    from rayserve_par.control.decide.settings import Bounds
    from rayserve_par.control.instance_model.capacity import InstanceModel, budget_within
    from rayserve_par.control.instance_model.step_times import StepTimes
    from rayserve_par.control.simulate.engine import EngineLimits
    from rayserve_par.control.simulate.scenario import Scenario
    from rayserve_par.control.simulate.study import Workload, with_first_instances

    raw = read_arrivals(options.trace)
    isl, osl = _means(raw) if raw else (options.isl, options.osl)
    plan, predictor, batch = _plan(options, round(isl), max(1, round(osl)))
    times = StepTimes(predictor)
    budget = options.max_num_batched_tokens or budget_within(
        times, options.tpot_seconds, isl, batch[0]
    )
    limits = EngineLimits(plan.memory.kv_tokens, batch[1], budget)
    model = InstanceModel(
        times,
        kv_tokens=limits.kv_tokens,
        max_num_seqs=limits.max_num_seqs,
        max_num_batched_tokens=budget,
        ttft_limit=options.ttft_seconds,
        tpot_limit=options.tpot_seconds,
    )
    least = LeastTimes(plan.layout.label, *model.least_times(isl))
    check_target((least,), options.ttft_seconds, options.tpot_seconds, isl)
    arrivals, factor, duration = _arrivals(options, raw, model)
    bounds = Bounds(options.least, options.most or plan.instances)
    scenario = Scenario(
        times=_slower(predictor, options.slower, times),
        limits=limits,
        gpus_per_instance=plan.layout.gpus,
        initial=options.least,
        most=bounds.most,
        start_seconds=options.start_seconds,
        interval_seconds=options.interval_seconds,
        duration_seconds=duration,
        ttft_limit=options.ttft_seconds,
        tpot_limit=options.tpot_seconds,
        failures=tuple(parse_failure(one) for one in options.fail),
    )
    workload = with_first_instances(Workload(arrivals, scenario, model, bounds))
    capacity = workload.capacity
    lines = (
        f"{plan.model_name} as {plan.layout.label} on {plan.node_group.label}: at most "
        f"{bounds.most} instances, {limits.kv_tokens:,} KV tokens per DP rank, "
        f"max_num_batched_tokens {budget}"
        + ("" if options.max_num_batched_tokens else " (the largest whose full step keeps TPOT)"),
        f"one instance carries {capacity.requests_per_second:.1f} requests/s of ISL "
        f"{capacity.isl:,.0f} and OSL {capacity.osl:,.0f}",
        f"{len(arrivals):,} requests over {duration:,.0f} s"
        + (f", the trace x {factor:g} by {options.scaling}" if raw and factor != 1 else "")
        + f"; starts take {options.start_seconds:g} s",
    )
    return Made(workload, plan, lines, factor)


def read_arrivals(trace: str) -> tuple[Arrival, ...]:
    """The requests of a trace file; none for the name of a synthetic one."""
    from rayserve_par.control.simulate.synthetic import SHAPES
    from rayserve_par.control.simulate.trace import parse_trace

    if trace in SHAPES:
        return ()
    path = Path(trace)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text in UTF-8"
        raise RefusedError(
            f"--trace {trace} cannot be read: {reason}. Give a CSV file, or one of "
            f"{', '.join(SHAPES)}."
        ) from error
    return parse_trace(text, trace)


def _means(arrivals: tuple[Arrival, ...]) -> tuple[float, float]:
    count = len(arrivals)
    return sum(one.isl for one in arrivals) / count, sum(one.osl for one in arrivals) / count


def _plan(options: SimulateOptions, isl: int, osl: int) -> tuple[Plan, Predictor, tuple[int, int]]:
    from rayserve_par.cli.plan_inputs import plan_inputs
    from rayserve_par.cli.plan_options import PlanOptions
    from rayserve_par.planning.candidate import Need
    from rayserve_par.planning.spread import Spread

    file = options.cluster.endswith((".yaml", ".yml"))
    asked = PlanOptions(
        gpus=None if file else options.cluster,
        cluster=Path(options.cluster) if file else None,
        isl=isl,
        osl=osl,
        ttft=f"{1e3 * options.ttft_seconds:g}ms",
        tpot=f"{1e3 * options.tpot_seconds:g}ms",
    )
    found = plan_inputs(options.model, asked)
    if len(found) > 1:
        names = ", ".join(one.name for one in found)
        raise RefusedError(
            f"--model {options.model} has several applications ({names}), and one is simulated. "
            "Give a config with one, or the model."
        )
    plan = found[0].plan()
    need = Need(
        model=found[0].spec,
        kv_allowance=plan.sizing.kv_allowance,
        request_tokens=isl + osl,
        options=plan.engine_options,
        workload=plan.workload,
        constants=found[0].constants,
    )
    spread = Spread(plan.layout, plan.node_group, plan.across_nodes)
    batch = plan.engine_options.batch(plan.node_group.gpu, found[0].spec)
    return plan, need.predictor(spread), batch


def _slower(predictor: Predictor, factor: float, times: StepTimes) -> StepTimes:
    """Step times of the engines that run, which a policy does not know of."""
    if not 0.1 <= factor <= 10:
        raise RefusedError(f"--slower {factor:g}: give a factor from 0.1 to 10.")
    from rayserve_par.control.instance_model.step_times import StepTimes

    return times if factor == 1 else StepTimes(predictor, factor)


def _arrivals(
    options: SimulateOptions, raw: tuple[Arrival, ...], model: InstanceModel
) -> tuple[tuple[Arrival, ...], float, float]:
    """Arrivals, the factor they were scaled by, and the seconds that are simulated."""
    from rayserve_par.control.simulate.synthetic import lengths_around, synthetic
    from rayserve_par.control.simulate.trace import scaled

    if options.scale is not None and options.instances is not None:
        raise RefusedError("--scale and --instances both set the load; give one of them.")
    draw = Random(options.seed).random
    if raw:
        factor = options.scale or 1.0
        if options.instances is not None:
            factor = _factor_for(raw, options, model)
        return scaled(raw, factor, options.scaling, draw), factor, raw[-1].seconds + 1.0
    low, high = instances_range(options.instances) if options.instances else (_LOW, _HIGH)
    factor = options.scale or 1.0
    capacity = model.capacity(options.isl, options.osl)
    each = capacity.requests_per_second * _HEADROOM * factor
    found = synthetic(
        options.trace,  # type: ignore[arg-type]  # read_arrivals has found it among the shapes
        low=low * each,
        high=high * each,
        duration=options.duration_seconds,
        lengths=lengths_around(options.isl, options.osl),
        draw=draw,
    )
    return found, factor, options.duration_seconds


def _factor_for(raw: tuple[Arrival, ...], options: SimulateOptions, model: InstanceModel) -> float:
    """The factor at which the busiest minute needs the upper number of instances."""
    from rayserve_par.control.simulate.oracle import work_by_second
    from rayserve_par.control.simulate.trace import scaled

    _, high = instances_range(options.instances or "")
    capacity = model.capacity(*_means(raw))
    factor = 1.0
    for _ in range(_ROUNDS):
        tried = scaled(raw, factor, options.scaling, Random(options.seed).random)
        work = work_by_second(tried, capacity, int(raw[-1].seconds) + 1)
        minutes = range(0, max(1, len(work) - _BUSIEST_SECONDS + 1))
        busiest = max(sum(work[m : m + _BUSIEST_SECONDS]) for m in minutes) / _BUSIEST_SECONDS
        if abs(busiest / _HEADROOM / high - 1) < _CLOSE:
            break
        factor = max(0.01, round(factor * high * _HEADROOM / busiest, 2))
    return factor


def instances_range(text: str) -> tuple[float, float]:
    """LOW..HIGH, or HIGH alone. Raises RefusedError for anything else."""
    match = re.fullmatch(r"(?:(\d+(?:\.\d+)?)\.\.)?(\d+(?:\.\d+)?)", text)
    if match is None or not 0 <= float(match[1] or 0) <= float(match[2]) or not float(match[2]):
        raise RefusedError(f"--instances {text}: write LOW..HIGH, such as 2..40, or HIGH.")
    return float(match[1] or 0), float(match[2])


def parse_failure(text: str) -> Failure:
    """KIND@SECONDS or KIND:COUNT@SECONDS, KIND die or start. Raises RefusedError otherwise."""
    from rayserve_par.control.simulate.scenario import Failure

    match = re.fullmatch(r"(die|start)(?::(\d+))?@(\d+(?:\.\d+)?)", text)
    if match is None or match[2] == "0":
        raise RefusedError(
            f"--fail {text}: write die@SECONDS (an instance dies), die:COUNT@SECONDS, or "
            "start@SECONDS (a start under way fails)."
        )
    kind: Literal["die", "start"] = "die" if match[1] == "die" else "start"
    return Failure(kind, float(match[3]), int(match[2] or 1))
