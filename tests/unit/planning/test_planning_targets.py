"""What each target wants, and what it needs to be told."""

from dataclasses import replace
from typing import Any

import pytest
from planning_cases import (
    DEEPSEEK,
    LLAMA_8B,
    LLAMA_70B,
    MODELS,
    QWEN,
    SMOL,
    group,
    need_of,
    planned,
)
from published_models import published

from rayserve_par.errors import RefusedError
from rayserve_par.hardware import Cluster, NodeGroup, gpu_by_name, parse_cluster
from rayserve_par.planning import Layout, LayoutRequest, Plan, Target, Workload, plan
from rayserve_par.planning.choose import Choice, choose
from rayserve_par.planning.performance import decode_seconds
from rayserve_par.sizing.engine_options import EngineOptions


def at_rate(name: str, cluster: str, rate: float, **limits: Any) -> Plan:
    served = Workload(requests_per_second=rate, **limits)
    return planned(name, cluster, target=Target.RATE, workload=served)


def priced(name: str, gpu: str, dollars: float | None, nodes: int = 1) -> NodeGroup:
    found = replace(gpu_by_name(gpu), price_per_hour_usd=dollars)
    return NodeGroup(name, found, nodes, found.gpus_per_node)


def test_balanced_is_the_default() -> None:
    assert planned(LLAMA_8B, "8xH100").target is Target.BALANCED


@pytest.mark.parametrize("name", [LLAMA_8B, LLAMA_70B, QWEN])
def test_each_target_is_best_at_what_it_wants(name: str) -> None:
    served = Workload(ttft_seconds=4.0, tpot_seconds=0.2)
    plans = {
        target: planned(name, "8xH200", target=target, workload=served)
        for target in (Target.BALANCED, Target.LATENCY, Target.THROUGHPUT, Target.COST)
    }
    for other in plans.values():
        assert plans[Target.BALANCED].layout.gpus <= other.layout.gpus
        assert plans[Target.LATENCY].point.tpot_seconds <= 1.03 * other.point.tpot_seconds
        most = plans[Target.THROUGHPUT].point.tokens_per_second_per_gpu
        assert other.point.tokens_per_second_per_gpu <= 1.03 * most
        cheapest = plans[Target.COST].dollars_per_million_tokens
        assert cheapest is not None
        assert other.dollars_per_million_tokens is not None
        assert cheapest <= 1.03 * other.dollars_per_million_tokens


@pytest.mark.parametrize(
    ("name", "cluster", "target"),
    [
        (LLAMA_8B, "8xH100", Target.THROUGHPUT),
        (LLAMA_70B, "8xH100", Target.BALANCED),
        (DEEPSEEK, "16xH100", Target.COST),
        (QWEN, "8xH200", Target.RATE),
    ],
)
def test_the_point_is_within_the_limits(name: str, cluster: str, target: Target) -> None:
    served = Workload(isl=2048, osl=512, requests_per_second=0.1, ttft_seconds=3, tpot_seconds=0.08)
    point = planned(name, cluster, target=target, workload=served).point
    assert point.ttft_seconds <= 3
    assert point.tpot_seconds <= 0.08


def test_tighter_limits_never_carry_more_streams() -> None:
    points = [
        planned(
            LLAMA_8B,
            "1xH100",
            request=LayoutRequest(),
            workload=Workload(tpot_seconds=limit),
        ).point
        for limit in (0.2, 0.05, 0.02, 0.01, 1e-5)
    ]
    streams = [point.streams for point in points]
    assert streams == sorted(streams, reverse=True)
    assert streams[0] > streams[-1] == 1
    assert all(number == int(number) for number in streams)


def test_streams_stay_within_the_kv_memory() -> None:
    loose = Workload(isl=30_000, osl=2000, ttft_seconds=1e4, tpot_seconds=100)
    for request in (LayoutRequest(tp=2), LayoutRequest(tp=8)):
        found = planned(LLAMA_70B, "8xH100", request=request, workload=loose)
        assert found.point.streams <= found.memory.requests_at(loose.tokens)
        assert found.point.streams > found.memory.requests_at(loose.tokens) - 1


# Rate


@pytest.mark.parametrize("rate", [0.5, 5, 40, 150])
@pytest.mark.parametrize("name", [LLAMA_8B, LLAMA_70B, QWEN])
def test_the_instances_carry_the_rate_and_one_fewer_would_not(name: str, rate: float) -> None:
    found = at_rate(name, "64x8xH200", rate)
    assert found.requests_per_second >= rate
    assert (found.instances - 1) * found.point.requests_per_second < rate
    assert rate / found.point.requests_per_second <= found.instances


@pytest.mark.parametrize("rate", [1, 12, 90])
def test_no_other_layout_carries_the_rate_on_fewer_gpus(rate: float) -> None:
    served = Workload(requests_per_second=rate)
    choice = choose(need_of(MODELS[LLAMA_70B], served), group("H200", 64), Target.RATE)
    assert isinstance(choice, Choice)

    def gpus(one: Any) -> float:
        return float(one.instances_for(rate) * one.gpus_taken)

    others = [one for one in choice.candidates if one.in_one_domain and one.meets_limits]
    assert len(others) > 2
    assert gpus(choice.best) == min(gpus(one) for one in others)


def test_a_rate_goes_where_there_are_gpus_enough() -> None:
    one = at_rate(LLAMA_8B, "2xH200,64xH100", 1)
    assert one.node_group.name == "h200"
    each = planned(LLAMA_8B, "1xH200").point.requests_per_second
    many = at_rate(LLAMA_8B, "2xH200,64xH100", 3 * each)
    assert many.node_group.name == "h100"
    assert many.requests_per_second >= 3 * each


def test_a_rate_beyond_the_cluster_is_refused_with_the_arithmetic() -> None:
    with pytest.raises(RefusedError) as refused:
        at_rate(LLAMA_8B, "1xH100", 1000)
    message = str(refused.value)
    each = planned(LLAMA_8B, "1xH100").point.requests_per_second
    assert f"1000 requests/s / {each:.3g} per instance" in message
    assert "1x1xH100 has 1 GPUs and holds 1" in message
    assert message.endswith("Add nodes.")


def test_instances_asked_for_outrank_the_rate() -> None:
    served = Workload(requests_per_second=1)
    found = planned(LLAMA_8B, "8xH100", target=Target.RATE, workload=served, instances=3)
    assert found.instances == 3


def test_a_rate_counts_for_explicit_layouts_and_other_targets() -> None:
    served = Workload(requests_per_second=1)
    asked = planned(LLAMA_8B, "8xH100", workload=served, request=LayoutRequest(tp=2))
    assert asked.instances == 1
    assert planned(LLAMA_8B, "8xH100", workload=served).instances == 1


def test_the_target_rate_needs_a_rate() -> None:
    with pytest.raises(RefusedError, match=r"target rate: no rate is given\. Give requests per"):
        planned(LLAMA_8B, "8xH100", target=Target.RATE)
    # Also where nothing would fit: what is missing is said first.
    with pytest.raises(RefusedError, match="no rate is given"):
        planned(DEEPSEEK, "8xH100", target=Target.RATE)


# Cost


@pytest.mark.parametrize(("here", "there", "winner"), [(1, 9, "a"), (9, 1, "b"), (2, 2, "a")])
def test_cost_picks_the_cheaper_of_equal_groups(here: float, there: float, winner: str) -> None:
    cluster = Cluster((priced("a", "H100", here), priced("b", "H100", there)))
    found = plan(MODELS[LLAMA_8B], cluster, target=Target.COST)
    assert found.node_group.name == winner


def test_cost_takes_the_slower_gpu_where_its_price_makes_up_for_it() -> None:
    model = MODELS[LLAMA_8B]
    served = Workload(tpot_seconds=0.1)

    def chosen(dollars: float) -> Plan:
        groups = (priced("slow", "L40S", dollars), priced("fast", "H100", 10.0))
        return plan(model, Cluster(groups), target=Target.COST, workload=served)

    slow = plan(model, Cluster((priced("slow", "L40S", 1.0),)), workload=served)
    fast = plan(model, Cluster((priced("fast", "H100", 10.0),)), workload=served)
    ratio = slow.point.tokens_per_second_per_gpu / fast.point.tokens_per_second_per_gpu
    assert ratio < 1
    assert chosen(10 * ratio * 0.8).node_group.name == "slow"
    assert chosen(10 * ratio * 1.25).node_group.name == "fast"


def test_a_group_without_price_loses_to_one_with() -> None:
    found = planned(LLAMA_8B, "8xH20,8xH100", target=Target.COST)
    assert found.node_group.name == "h100"
    assert found.dollars_per_million_tokens is not None


def test_no_price_at_all_is_refused() -> None:
    with pytest.raises(RefusedError, match=r"target cost: H20 has no list price\. Give one \(pri"):
        planned(LLAMA_8B, "8xH20", target=Target.COST)
    with pytest.raises(RefusedError, match="H20, H800 has no list price"):
        planned(LLAMA_8B, "8xH800,8xH20", target=Target.COST)


def test_what_costs_nothing_has_a_price() -> None:
    found = planned(SMOL, "2x2xlogical-cpu", target=Target.COST)
    assert (found.layout, found.dollars_per_million_tokens) == (Layout(), 0)


def test_cost_agrees_with_throughput_where_all_gpus_cost_the_same() -> None:
    for name in (LLAMA_8B, LLAMA_70B, QWEN):
        cheap = planned(name, "8xH200", target=Target.COST)
        assert cheap.layout == planned(name, "8xH200", target=Target.THROUGHPUT).layout


# Where TP and EP cross by batch


@pytest.mark.parametrize(("batch", "faster"), [(1, "TP1"), (128, "TP2EP2")])
def test_qwen3_30b_on_two_h200(batch: int, faster: str) -> None:
    model, gpu = published("Qwen--Qwen3-30B-A3B"), gpu_by_name("H200")
    seconds = {
        layout.label: decode_seconds(model, gpu, layout, batch=batch, context_tokens=1056)
        for layout in (Layout(), Layout(tp=2, ep=2))
    }
    assert min(seconds, key=seconds.__getitem__) == faster


def test_qwen3_30b_latency_takes_one_gpu_and_a_busy_instance_two() -> None:
    model, pair = published("Qwen--Qwen3-30B-A3B"), Cluster((group("H200", 1, 2),))
    assert plan(model, pair, target=Target.LATENCY).layout == Layout()
    served = Workload(isl=992, osl=128)
    alone, shared = (
        plan(model, pair, request=request, workload=served)
        for request in (LayoutRequest(), LayoutRequest(tp=2, ep=2))
    )
    assert shared.point.streams > alone.point.streams


def test_latency_cannot_carry_a_rate() -> None:
    served = Workload(requests_per_second=10)
    with pytest.raises(RefusedError, match=r"one stream.*10 requests/s.*--target rate"):
        planned(LLAMA_8B, "8xH100", target=Target.LATENCY, workload=served)


def test_a_latency_that_breaks_a_limit_says_so() -> None:
    served = Workload(tpot_seconds=0.001)
    found = planned(LLAMA_8B, "8xH100", target=Target.LATENCY, workload=served)
    assert any("no layout meets" in reason for reason in found.reasons)


def test_too_few_instances_for_the_rate_are_warned_of() -> None:
    served = Workload(requests_per_second=1000)
    found = planned(LLAMA_8B, "8xH100", workload=served, instances=1)
    assert any("do not carry the 1000 asked for" in warning for warning in found.warnings)


def test_how_a_rate_becomes_instances_is_shown() -> None:
    found = at_rate(LLAMA_8B, "8xH100", 30)
    each = found.point.requests_per_second
    arithmetic = f"30 requests/s / {each:.3g} of a full instance need {found.instances} instances"
    assert any(arithmetic in reason for reason in found.reasons)


def test_idle_gpus_are_paid_for() -> None:
    request = LayoutRequest(tp=4)
    whole = planned(LLAMA_70B, "1x8xH100", request=request)
    alone = planned(LLAMA_70B, "1x6xH100", request=request)
    assert whole.dollars_per_hour == pytest.approx(80.0)
    assert alone.dollars_per_hour == pytest.approx(60.0)  # two of the six GPUs are idle


def test_no_more_streams_than_the_engine_runs() -> None:
    served = Workload(isl=64, osl=64, ttft_seconds=60, tpot_seconds=0.5)
    options = EngineOptions(max_num_seqs=8)
    found = plan(MODELS[LLAMA_8B], parse_cluster("8xH100"), workload=served, options=options)
    assert found.point.streams <= 8
    unbounded = planned(LLAMA_8B, "8xH100", workload=served)
    assert unbounded.point.streams <= 1024 < unbounded.memory.requests_at(served.tokens)


def test_the_engines_cache_format_counts() -> None:
    half = plan(MODELS[LLAMA_8B], parse_cluster("8xH100"), options=EngineOptions(kv_cache_bits=8))
    whole = planned(LLAMA_8B, "8xH100")
    assert half.memory.kv_tokens == pytest.approx(2 * whole.memory.kv_tokens, rel=0.01)


@pytest.mark.parametrize("value", [float("inf"), float("nan"), -1.0])
def test_a_rate_is_finite(value: float) -> None:
    with pytest.raises(RefusedError, match="rate"):
        Workload(requests_per_second=value)
