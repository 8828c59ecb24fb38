"""What one candidate takes, holds and does."""

import pytest
from planning_cases import DEEPSEEK, LLAMA_8B, LLAMA_70B, MODELS, group, need_of

from rayserve_par.hardware import NodeGroup
from rayserve_par.planning import Layout, Target, Workload
from rayserve_par.planning.candidate import Candidate, candidate_at, in_one_domain
from rayserve_par.planning.spread import spread_of


def candidate(
    name: str,
    layout: Layout,
    nodes: NodeGroup,
    target: Target = Target.BALANCED,
    workload: Workload | None = None,
) -> Candidate:
    need = need_of(MODELS[name], workload)
    return candidate_at(need, spread_of(layout, nodes, "auto"), need.memory(layout, nodes), target)


@pytest.mark.parametrize(
    ("layout", "nodes", "taken", "one_domain"),
    [
        (Layout(), group("H100"), 1, True),
        (Layout(tp=2), group("H100"), 2, True),
        (Layout(pp=3), group("H100"), 4, True),  # two instances a node, 2 of 8 GPUs idle
        (Layout(pp=5), group("H100"), 8, True),
        (Layout(tp=2, pp=3), group("H100"), 8, True),
        (Layout(tp=8), group("H100"), 8, True),
        (Layout(tp=8, pp=2), group("H100", 2), 16, False),
        (Layout(tp=4), group("H100", 1, 6), 6, True),
        (Layout(tp=4, pp=2), group("H100", 2, 6), 12, False),
        (Layout(tp=2, pp=4), group("H100", 2, 6), 8, False),  # three groups a node, packed
        (Layout(tp=16), group("GB300", 18), 16, True),
        (Layout(tp=4, pp=3), group("GB300", 18), 12, True),
        (Layout(tp=4, pp=24), group("GB300", 36), 96, False),
    ],
)
def test_gpus_taken(layout: Layout, nodes: NodeGroup, taken: float, one_domain: bool) -> None:
    found = candidate(LLAMA_8B, layout, nodes)
    assert found.gpus_taken == pytest.approx(taken)
    assert found.in_one_domain is in_one_domain(found.spread) is one_domain
    assert found.tokens_per_second_per_gpu_taken <= found.point.tokens_per_second_per_gpu


def test_the_excess_is_that_of_the_limit_that_is_broken_most() -> None:
    loose = candidate(LLAMA_70B, Layout(tp=2), group("H100"))
    assert loose.meets_limits
    assert loose.excess <= 1
    point = candidate(LLAMA_70B, Layout(tp=2), group("H100"), Target.LATENCY).point
    tight = Workload(ttft_seconds=point.ttft_seconds / 2, tpot_seconds=point.tpot_seconds / 3)
    broken = candidate(LLAMA_70B, Layout(tp=2), group("H100"), workload=tight)
    assert not broken.meets_limits
    assert broken.excess == pytest.approx(3)
    assert broken.point.streams == 1


def test_latency_looks_at_one_stream_of_each_dp_rank() -> None:
    alone = candidate(LLAMA_8B, Layout(), group("H100"), Target.LATENCY)
    assert alone.point.streams == 1
    ranks = candidate(DEEPSEEK, Layout(dp=8, ep=8), group("H200"), Target.LATENCY)
    assert ranks.point.streams == 8


def test_streams_grow_until_a_limit_breaks() -> None:
    need, nodes = need_of(MODELS[LLAMA_8B]), group("H100")
    found = candidate(LLAMA_8B, Layout(), nodes)
    predicted = need.predictor(found.spread)
    twice = predicted.at(isl=1024, osl=256, streams=2 * found.point.streams)
    assert found.meets_limits
    assert (
        twice.tpot_seconds > need.workload.tpot_limit
        or twice.ttft_seconds > need.workload.ttft_limit
        or twice.streams > found.memory.requests_at(1280)
    )


@pytest.mark.parametrize(("nodes", "carries"), [(1, False), (2, True), (3, True)])
def test_the_rate_that_a_group_carries(nodes: int, carries: bool) -> None:
    each = candidate(LLAMA_8B, Layout(tp=8), group("H100")).point.requests_per_second
    served = Workload(requests_per_second=1.5 * each)
    found = candidate(LLAMA_8B, Layout(tp=8), group("H100", nodes), workload=served)
    assert found.instances_for(1.5 * each) == 2
    assert found.carries_rate is carries
    assert candidate(LLAMA_8B, Layout(tp=8), group("H100")).carries_rate


@pytest.mark.parametrize(
    ("gpu", "layout", "nodes", "near", "share"),
    [
        ("H200", Layout(dp=8, ep=8), 1, True, 0),
        ("H200", Layout(dp=16, ep=16), 2, False, 1 / 2),
        ("H200", Layout(pp=2, dp=8, ep=8), 2, False, 0),
        ("H200", Layout(tp=8, dp=4, ep=32), 4, False, 3 / 4),
        ("GB200", Layout(dp=16, ep=16), 4, True, 0),  # one NVLink domain
        ("GB200", Layout(dp=16, ep=16), 18, True, 0),
    ],
)
def test_what_crosses_nics(gpu: str, layout: Layout, nodes: int, near: bool, share: float) -> None:
    found = group(gpu, nodes)
    speed = need_of(MODELS[DEEPSEEK]).predictor(spread_of(layout, found, "auto")).speed
    assert speed.leaving_share == share
    wanted = found.gpu.link_bytes_per_second if near else found.gpu.nic_bytes_per_second
    assert speed.nic == wanted
