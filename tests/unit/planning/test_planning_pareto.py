"""Curves go through the plan's points, and nothing beats the frontier."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from planning_cases import DEEPSEEK, LLAMA_8B, MODELS, QWEN, SMOL, planned

from rayserve_par.planning import Layout, LayoutRequest, Workload
from rayserve_par.planning.pareto import Curve, frontier, pareto_curves, plan_stages
from rayserve_par.planning.performance import OperatingPoint, predict

CASES = [
    (SMOL, "2xL4", {}),
    (LLAMA_8B, "4xL40S,8xH100", {}),
    (QWEN, "8xH100", {}),
    (DEEPSEEK, "2x8xH200", {"request": LayoutRequest(tp=8, dp=2, ep=16)}),
    (LLAMA_8B, "8xL4", {"request": LayoutRequest(pp=3), "max_model_len": 8192}),
]


@pytest.mark.parametrize(("name", "cluster", "asked"), CASES)
def test_the_curves_are_those_of_the_plan(
    name: str, cluster: str, asked: dict[str, object]
) -> None:
    made = planned(name, cluster, workload=Workload(isl=512, osl=128), **asked)
    curves = pareto_curves(MODELS[name], made)
    same_group = [one for one in made.runner_ups if one.node_group == made.node_group.name]
    assert [curve.layout for curve in curves] == [
        made.layout,
        *(one.layout for one in same_group),
    ]
    stated = {one.layout: one.point for one in same_group} | {made.layout: made.point}
    met = 0
    for curve in curves:
        streams = [point.streams for point in curve.points]
        assert streams == sorted(set(streams))
        assert streams[0] == curve.layout.dp
        for point in curve.points:
            if point.streams == stated[curve.layout].streams:
                assert point == stated[curve.layout]
                met += 1
    assert met > 0


@pytest.mark.parametrize(("name", "cluster", "asked"), CASES)
def test_the_stages_have_the_plans_memory_among_them(
    name: str, cluster: str, asked: dict[str, object]
) -> None:
    made = planned(name, cluster, **asked)
    stages = plan_stages(MODELS[name], made)
    assert len(stages) == made.layout.pp
    assert stages[made.memory.stage] == made.memory


def test_curves_end_where_kv_memory_is_full() -> None:
    made = planned(LLAMA_8B, "1xL4", max_model_len=4096, workload=Workload(isl=3000, osl=500))
    (curve,) = pareto_curves(MODELS[LLAMA_8B], made)
    assert curve.points[-1].streams == int(made.memory.requests_at(3500))


_BASE = predict(
    MODELS[SMOL], planned(SMOL, "1xL4").node_group.gpu, Layout(), isl=8, osl=8, streams=1
)


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), min_size=1, max_size=30))
def test_nothing_beats_the_frontier_and_the_rest_is_beaten(pairs: list[tuple[int, int]]) -> None:
    points = tuple(
        replace(_BASE, tpot_seconds=1 / user, tokens_per_second=float(gpu), gpus=1)
        for user, gpu in pairs
    )
    best = [point for _, point in frontier((Curve(Layout(), points),))]

    def beats(one: OperatingPoint, other: OperatingPoint) -> bool:
        mine = (one.tokens_per_second_per_user, one.tokens_per_second_per_gpu)
        theirs = (other.tokens_per_second_per_user, other.tokens_per_second_per_gpu)
        return mine != theirs and mine[0] >= theirs[0] and mine[1] >= theirs[1]

    assert not any(beats(point, one) for point in points for one in best)
    for point in points:
        assert point in best or any(beats(one, point) for one in best)
    users = [point.tokens_per_second_per_user for point in best]
    assert users == sorted(users)
