"""How an application scales, from its config and plan: refused here where it cannot work.

Under the policy `latency` the engine gets the largest max_num_batched_tokens whose full step keeps
TPOT, as the simulator's engines have (decision 0017), unless the config sets it; and never more
sequences than tokens of a step, which vLLM refuses.
"""

from __future__ import annotations

from typing import Any

from rayserve_par.control.decide.feasible import LeastTimes, check_target
from rayserve_par.control.decide.settings import ScaleSettings, bounds_within
from rayserve_par.control.instance_model.capacity import InstanceModel, Times, budget_within
from rayserve_par.control.instance_model.step_times import StepTimes
from rayserve_par.control.live.mock_times import MockStepTimes
from rayserve_par.control.live.settings import EngineLimits, LiveSettings
from rayserve_par.errors import RefusedError
from rayserve_par.planning.candidate import Need
from rayserve_par.planning.plan import Plan
from rayserve_par.planning.spread import Spread
from rayserve_par.serving.app import Scaling, placement_of
from rayserve_par.serving.autoscaling_args import AutoscalingArgs
from rayserve_par.serving.config import AppArgs
from rayserve_par.serving.mock_engine.times import EngineTimes
from rayserve_par.serving.model_store.locate import Model
from rayserve_par.settings import load_settings

POLICY = "rayserve_par.control.live.policy:ServePolicy"
# Reports come twice a look, so that a look knows of all but the latest load. What they carry goes
# back further than from one look to the next, or seconds of it would be known together only; Serve
# records a point each fifth of that.
_REPORTS_PER_LOOK = 2
_LOOKS_CARRIED = 2


def scaling_for(args: AppArgs, model: Model, made: Plan) -> Scaling | None:
    """How this application scales; None for a fixed number.

    Raises:
        RefusedError: limits cross, or no layout can hold the target; with the arithmetic.
    """
    if args.autoscaling is None:
        return None
    if args.scaling_policy == "ongoing_requests":
        return Scaling(args.autoscaling.serve_options())
    live = live_settings(args, model, made)
    engine: dict[str, Any] = {}
    tokens = live.limits.max_num_batched_tokens
    whole_prompts = args.engine.get("enable_chunked_prefill") is False
    if args.mock_engine is None and not whole_prompts and _free_budget(args):
        engine = {"max_num_batched_tokens": tokens, "max_num_seqs": live.limits.max_num_seqs}
    deployment: dict[str, Any] = {}
    if args.autoscaling.min_replicas == 0:
        deployment = {"max_queued_requests": args.autoscaling.max_held_requests}
    return Scaling(_serve_options(args.autoscaling, live), deployment, engine)


def check_holding(args: AppArgs) -> None:
    """Refuse to scale to zero where nothing would hold requests or wake the application.

    Raises:
        RefusedError: min_replicas is 0, and this process's environment has no holding.
    """
    if args.autoscaling is None or args.autoscaling.min_replicas or load_settings().front_hold:
        return
    raise RefusedError(
        "autoscaling.min_replicas is 0, and HAProxy answers 503 by itself where a model has no "
        "instance, so that nothing would start one. Set RAYSERVE_PAR_FRONT_HOLD=true in the "
        "environment of the whole cluster (`ray start`, or `rayserve-par serve`), or give at "
        "least 1."
    )


def _serve_options(args: AutoscalingArgs, live: LiveSettings) -> dict[str, Any]:
    """Serve's delays are 0 and its factors 1: the policy decides when."""
    bounds = live.scale.bounds
    return {
        # A first instance shows that it starts; idle time takes it away.
        **({} if bounds.least else {"initial_replicas": 1}),
        "min_replicas": bounds.least,
        "max_replicas": bounds.most,
        "target_ongoing_requests": args.target_ongoing_requests,
        "upscale_delay_s": 0.0,
        "downscale_delay_s": 0.0,
        "metrics_interval_s": args.look_seconds / _REPORTS_PER_LOOK,
        "look_back_period_s": args.look_seconds * _LOOKS_CARRIED,
        "policy": {"policy_function": POLICY, "policy_kwargs": live.as_kwargs()},
    }


def live_settings(args: AppArgs, model: Model, made: Plan) -> LiveSettings:
    """What the policy is made from.

    Raises:
        RefusedError: as `scaling_for`.
    """
    asked = args.autoscaling
    assert asked is not None, "asked for with autoscaling only"
    workload = made.workload
    ttft_limit, tpot_limit = workload.ttft_limit, workload.tpot_limit
    bounds = bounds_within(
        asked.min_replicas, asked.max_replicas, made.layout.gpus, asked.gpu_budget
    )
    scale = ScaleSettings(
        bounds=bounds,
        attainment=asked.attainment,
        usable_share=asked.usable_share,
        margin=asked.margin,
        settle_seconds=asked.settle_seconds,
        look_seconds=asked.look_seconds,
        to_zero_seconds=None if bounds.least else asked.to_zero_seconds,
    )
    times, limits = _engine_of(args, model, made, tpot_limit)
    live = LiveSettings(
        model=args.public_name,
        layout=made.layout.label,
        gpu=made.node_group.gpu.name,
        placement=placement_of(made),
        times=times,
        limits=limits,
        ttft_limit=ttft_limit,
        tpot_limit=tpot_limit,
        isl=workload.isl,
        osl=workload.osl,
        start_seconds=asked.start_seconds,
        scale=scale,
        dry_run=asked.dry_run,
        priority=asked.priority,
    )
    check_target(_least_times(args, model, made, live), ttft_limit, tpot_limit, workload.isl)
    live.instance_model().capacity(workload.isl, workload.osl)
    return live


def _engine_of(
    args: AppArgs, model: Model, made: Plan, tpot_limit: float
) -> tuple[Times, EngineLimits]:
    if args.mock_engine is not None:
        mock = EngineTimes.from_mapping(args.mock_engine, made.layout.label)
        limits = EngineLimits(mock.kv_tokens, mock.max_num_seqs, mock.max_num_batched_tokens)
        return MockStepTimes(mock), limits
    spread = Spread(made.layout, made.node_group, made.across_nodes)
    times = StepTimes(_need(model, made).predictor(spread))
    tokens, sequences = made.engine_options.batch(made.node_group.gpu, model.spec)
    if _free_budget(args):
        tokens = budget_within(times, tpot_limit, made.workload.isl, tokens)
        tokens = max(tokens, made.engine_options.max_num_seqs or 0)
    return times, EngineLimits(int(made.memory.kv_tokens), min(sequences, tokens), tokens)


def _free_budget(args: AppArgs) -> bool:
    """Whether the tokens of a step are ours to choose."""
    return "max_num_batched_tokens" not in args.engine


def _need(model: Model, made: Plan) -> Need:
    return Need(
        model=model.spec,
        kv_allowance=made.sizing.kv_allowance,
        request_tokens=made.workload.tokens,
        options=made.engine_options,
        workload=made.workload,
    )


def _least_times(
    args: AppArgs, model: Model, made: Plan, live: LiveSettings
) -> tuple[LeastTimes, ...]:
    """One request alone on the plan's layout; on the runner-ups too where it could be another."""
    isl = made.workload.isl
    found = [LeastTimes(live.layout, *live.instance_model().least_times(isl))]
    if args.mock_engine is None and args.layout == "auto":
        group = made.node_group
        for other in made.runner_ups:
            if other.node_group == group.name:
                spread = Spread(other.layout, group, made.across_nodes)
                predictor = _need(model, made).predictor(spread)
                alone = InstanceModel(
                    StepTimes(predictor),
                    kv_tokens=other.kv_tokens,
                    max_num_seqs=live.limits.max_num_seqs,
                    max_num_batched_tokens=live.limits.max_num_batched_tokens,
                    ttft_limit=live.ttft_limit,
                    tpot_limit=live.tpot_limit,
                )
                found.append(LeastTimes(other.layout.label, *alone.least_times(isl)))
    return tuple(found)
