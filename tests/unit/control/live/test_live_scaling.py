"""From a config and a plan to what Serve gets: options, engine arguments, and refusals."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ray.serve._private.autoscaling_state import _resolve_policy_callable
from ray.serve._private.common import DeploymentID, ReplicaID, TimeStampedValue
from ray.serve.config import AutoscalingConfig, AutoscalingContext

from rayserve_par.control.live import policy_edge
from rayserve_par.control.live.policy_edge import view_of
from rayserve_par.control.live.records import ControlStatus
from rayserve_par.control.live.scaling import POLICY, check_holding, scaling_for
from rayserve_par.control.live.settings import LiveSettings
from rayserve_par.control.live.surroundings import Around
from rayserve_par.errors import RefusedError
from rayserve_par.hardware.cluster import parse_cluster
from rayserve_par.serving.app import Scaling, plan_for
from rayserve_par.serving.config import parse_args
from rayserve_par.serving.instance_counters import REPORTED, InstanceReport
from rayserve_par.serving.model_store.locate import locate_model

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
LIMITS = {"isl": 2048, "osl": 128, "ttft_ms": 2000, "tpot_ms": 50}


def scaling(hardware: str = "8xH100", **changes: Any) -> Scaling | None:
    given = {"model": LLAMA, "workload": LIMITS, "autoscaling": {"max_replicas": 8}, **changes}
    args = parse_args(given, "x")
    model = locate_model(LLAMA, prepare=False)
    return scaling_for(args, model, plan_for(args, model, parse_cluster(hardware)))


def made(**changes: Any) -> Scaling:
    found = scaling(**changes)
    assert found is not None
    return found


def settings_of(found: Scaling) -> LiveSettings:
    return LiveSettings.from_kwargs(found.options["policy"]["policy_kwargs"])


def test_the_engine_gets_the_tokens_whose_full_step_keeps_tpot() -> None:
    found = made()
    tokens = found.engine["max_num_batched_tokens"]
    assert 1024 <= tokens <= 2048
    times = settings_of(found).times
    assert times.mixed(tokens - 16, 1024, 16, 2048) <= 0.05
    assert times.mixed(8192 - 16, 1024, 16, 2048) > 0.05
    assert found.engine["max_num_seqs"] <= tokens


@pytest.mark.parametrize(
    ("engine", "tokens", "given"),
    [
        ({"max_num_batched_tokens": 4096}, 4096, {}),
        ({"max_num_seqs": 3000}, 3000, {"max_num_batched_tokens": 3000, "max_num_seqs": 3000}),
    ],
)
def test_what_the_config_sets_stays(
    engine: dict[str, Any], tokens: int, given: dict[str, Any]
) -> None:
    found = made(engine=engine)
    assert found.engine == given
    assert settings_of(found).limits.max_num_batched_tokens == tokens


def test_prompts_in_one_piece_leave_the_budget_to_vllm() -> None:
    assert made(engine={"enable_chunked_prefill": False}).engine == {}


def test_serve_takes_the_options_and_neither_waits_nor_scales_by_itself() -> None:
    config = AutoscalingConfig(**made().options)
    assert (config.min_replicas, config.max_replicas) == (1, 8)
    assert (config.upscale_delay_s, config.downscale_delay_s) == (0, 0)
    assert (config.get_upscaling_factor(), config.get_downscaling_factor()) == (1, 1)
    # A look is 2 s: what it sees is at most half of one older than what was recorded last,
    assert config.metrics_interval_s == 1
    # the reports at two looks overlap,
    assert config.look_back_period_s > 2 + config.metrics_interval_s
    # and Serve records a point each fifth of the look-back: each second, so that bins are seconds.
    assert config.look_back_period_s / 5 <= 1
    assert len(json.dumps(config.policy.policy_kwargs)) < 100_000


def test_the_other_policy_and_a_fixed_number_are_serves_own() -> None:
    found = made(autoscaling={"policy": "ongoing_requests", "max_replicas": 3})
    assert "policy" not in found.options
    assert found.options["target_ongoing_requests"] == 32
    assert found.engine == {}
    assert scaling(autoscaling=None, num_replicas=2) is None


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        (
            {"autoscaling": {"max_replicas": 8, "min_replicas": 3, "gpu_budget": 2}},
            ("min 3 x 1 GPUs = 3 GPUs exceed the budget of 2",),
        ),
        ({"workload": {**LIMITS, "ttft_ms": 5}}, ("no layout holds TTFT 5 ms", "TP1 TTFT", "TP8")),
        ({"workload": {**LIMITS, "tpot_ms": 0.5}}, ("no layout holds", "TPOT 0.5 ms")),
        (
            {"workload": {**LIMITS, "ttft_ms": 5}, "layout": {"tp": 1}},
            ("no layout holds TTFT 5 ms", "TP1 TTFT"),
        ),
    ],
)
def test_what_cannot_be_is_refused_with_the_arithmetic(
    changes: dict[str, Any], parts: tuple[str, ...]
) -> None:
    with pytest.raises(RefusedError) as refused:
        scaling(**changes)
    for part in parts:
        assert part in str(refused.value)


def test_a_budget_limits_the_most() -> None:
    found = made(autoscaling={"max_replicas": 8, "gpu_budget": 5}, layout={"tp": 2})
    assert settings_of(found).scale.bounds.most == 2
    assert found.options["max_replicas"] == 2


def test_a_priority_reaches_the_policy() -> None:
    assert settings_of(made()).priority == 0
    found = made(autoscaling={"max_replicas": 8, "priority": -3})
    assert settings_of(found).priority == -3


def test_zero_needs_a_front_that_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = {"model": "m", "workload": LIMITS,
                 "autoscaling": {"min_replicas": 0, "max_replicas": 2}}  # fmt: skip
    args = parse_args(arguments, "x")
    with pytest.raises(RefusedError, match="RAYSERVE_PAR_FRONT_HOLD=true"):
        check_holding(args)
    monkeypatch.setenv("RAYSERVE_PAR_FRONT_HOLD", "true")
    check_holding(args)
    found = made(autoscaling={"min_replicas": 0, "max_replicas": 2, "to_zero_seconds": 30})
    assert settings_of(found).scale.to_zero_seconds == 30
    assert found.deployment == {"max_queued_requests": 256}
    assert found.options["initial_replicas"] == 1


DEPLOYMENT = DeploymentID(name="instance", app_name="app")


def context(target: int = 2, **more: Any) -> AutoscalingContext:
    replicas = [ReplicaID(f"r{n}", DEPLOYMENT) for n in range(2)]
    first = InstanceReport(second=100, arrived=4, arrived_prompt_tokens=40).as_floats()
    later = InstanceReport(second=101, arrived=7, arrived_prompt_tokens=70, running=2).as_floats()
    raw = {
        key: {
            replicas[0]: [TimeStampedValue(100.5, first[key]), TimeStampedValue(101.5, later[key])]
        }
        for key in REPORTED
    }
    values: dict[str, Any] = {
        "deployment_id": DEPLOYMENT, "deployment_name": "instance", "app_name": "app",
        "current_num_replicas": 2, "target_num_replicas": target, "running_replicas": replicas,
        "total_num_requests": lambda: 3.0, "total_queued_requests": lambda: 0.0,
        "aggregated_metrics": None, "raw_metrics": lambda: raw,
        "capacity_adjusted_min_replicas": 1, "capacity_adjusted_max_replicas": 8,
        "policy_state": {}, "last_scale_up_time": None, "last_scale_down_time": None,
        "current_time": 0.0, "config": None,
    }  # fmt: skip
    return AutoscalingContext(**{**values, **more})


def test_serves_context_is_read() -> None:
    view = view_of(context())
    assert (view.app, view.target, view.running, view.held) == ("app", 2, ("r0", "r1"), 0.0)
    assert set(view.reports) == {"r0"}
    report = view.reports["r0"]
    assert (report.stamp, report.latest.running) == (101.5, 2)
    assert [(one.second, one.requests) for one in report.arrivals] == [(100, 4), (101, 7)]
    assert view_of(context(running_replicas=[], raw_metrics=None)).held == 3


POSTED: list[ControlStatus] = []


class FakeSurroundings:
    def __init__(self, app: str, *_: Any) -> None:
        self.app, self.around = app, Around()

    def post(self, status: ControlStatus, _: Any) -> None:
        POSTED.append(status)


def test_serve_can_carry_and_call_the_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    """By Serve's own way: the module pickled by value, the class made from its kwargs."""
    monkeypatch.setattr(policy_edge, "Surroundings", FakeSurroundings)
    config = AutoscalingConfig(**made().options)
    assert config.policy.policy_function == POLICY
    policy = _resolve_policy_callable(config.policy)
    assert policy(context()) == (2, {})  # r1 does not report, so the number stays
    assert policy(context()) == (2, {})


def test_nothing_that_fails_reaches_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_edge, "Surroundings", FakeSurroundings)
    broken = policy_edge.PolicyEdge({"pickled": "nonsense"})
    assert broken.number(context(target=5)) == 5

    def fail() -> Any:
        raise OSError("no metrics")

    edge = policy_edge.PolicyEdge(made().options["policy"]["policy_kwargs"])
    assert edge.number(context(target=4, raw_metrics=fail)) == 4
    assert (POSTED[-1].app, POSTED[-1].wanted, POSTED[-1].reason) == ("app", 4, "failed")
    assert "OSError: no metrics" in POSTED[-1].problems[0]
