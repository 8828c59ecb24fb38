"""How a plan is shown: the bar adds up, nothing is wider than the console, nothing is lost."""

from dataclasses import replace
from io import StringIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from rayserve_par.cli.plan_explain import time_lines
from rayserve_par.cli.plan_numbers import layout_rows, number
from rayserve_par.cli.plan_view import autoscaling_line, headline, memory_bar, render_plan
from rayserve_par.hardware import GIB, Cluster, parse_cluster
from rayserve_par.model.component import Component
from rayserve_par.planning import Layout, LayoutRequest, Plan, Workload, plan
from rayserve_par.serving.config import parse_args
from rayserve_par.serving.model_store.locate import locate_model
from rayserve_par.sizing import RankMemory
from rayserve_par.sizing.kv_cache import KvGroup, KvPool
from rayserve_par.sizing.reserve import Reserve

DEEPSEEK = "deepseek-ai/DeepSeek-V3.1"
SMOL = "HuggingFaceTB/SmolLM2-135M-Instruct"


def planned(model: str, cluster: str, **asked: Any) -> Plan:
    return plan(locate_model(model, prepare=False).spec, parse_cluster(cluster), **asked)


def shown(made: Plan, *, width: int = 100, explain: bool = False, **more: Any) -> str:
    console = Console(file=StringIO(), width=width, highlight=False)
    console.print(render_plan(made, explain=explain, **more))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert isinstance(text, str)
    return text


@pytest.mark.parametrize(
    ("made", "line"),
    [
        (
            planned(DEEPSEEK, "8xB200", request=LayoutRequest(tp=8)),
            "deepseek-ai/DeepSeek-V3.1: TP8 on 1x8xB200, 1 instance, 8 x B200 on 1 node",
        ),
        (
            planned(DEEPSEEK, "36xGB200", request=LayoutRequest(tp=16)),
            "deepseek-ai/DeepSeek-V3.1: TP16 on 9x4xGB200, 2 instances, each 16 x GB200 on 4 "
            "nodes, every TP group on 4 nodes of one NVLink domain",
        ),
        (
            planned(DEEPSEEK, "4x8xH200", request=LayoutRequest(tp=8, dp=2, ep=16)),
            "deepseek-ai/DeepSeek-V3.1: TP8DP2EP16 on 4x8xH200, 2 instances, each 16 x H200 on "
            "2 nodes, every TP group on a node of its own",
        ),
    ],
)
def test_the_headline(made: Plan, line: str) -> None:
    assert headline(made).plain == line


@pytest.mark.parametrize("width", [60, 80, 100, 200])
@pytest.mark.parametrize(
    "made",
    [
        planned(DEEPSEEK, "4x8xH200"),
        planned(SMOL, "2x2xlogical-cpu", request=LayoutRequest(pp=2, across="nodes")),
        planned("Qwen/Qwen3-235B-A22B-FP8", "8xH100"),
    ],
    ids=lambda made: made.layout.label,
)
def test_no_line_is_wider_than_the_console(made: Plan, width: int) -> None:
    lines = shown(made, width=width, explain=True).splitlines()
    assert max(len(line) for line in lines) <= width
    assert any(f"rank {made.layout.ranks_per_dp_rank - 1}" in line for line in lines)


def test_refused_layouts_are_few_unless_explained() -> None:
    base = planned("Qwen/Qwen3-235B-A22B-FP8", "8xH100")
    one = next(refused for refused in base.refused if refused.layout == Layout(tp=8))
    made = replace(base, refused=(one,) * 5)
    assert "and 2 more (--explain shows all)" in shown(made)
    assert shown(made).count("- TP8: routed_experts") == 3
    assert shown(made, explain=True).count("- TP8: routed_experts") == 5


def test_where_auto_finds_nothing_the_view_says_so() -> None:
    base = planned(DEEPSEEK, "8xH200", request=LayoutRequest(tp=8), max_model_len=4096)
    made = replace(base, auto=None, auto_reasons=("it does not fit",))
    assert "nothing: no layout fits here - it does not fit" in " ".join(shown(made).split())


@pytest.mark.parametrize(
    ("autoscaling", "line"),
    [
        (None, None),
        (
            {"min_replicas": 1, "max_replicas": 4},
            "Autoscaling from 1 to 4 instances; the plan's nodes hold 4.",
        ),
        (
            {"max_replicas": 6},
            "Autoscaling from 1 to 6 instances; the plan's nodes hold 4. Above 4 new ones wait "
            "until nodes are added.",
        ),
    ],
)
def test_autoscaling_bounds(autoscaling: dict[str, int] | None, line: str | None) -> None:
    arguments = {"model": "openai/gpt-oss-120b", "autoscaling": autoscaling}
    args, two = parse_args(arguments, "a test"), LayoutRequest(tp=2)
    assert autoscaling_line(args, planned("openai/gpt-oss-120b", "8xH100", request=two)) == line


def rank_memory(
    weights: float, activations: float, rest: float, usable: float, utilization: float
) -> RankMemory:
    kv = usable * utilization - weights - activations - rest
    return RankMemory(
        stage=0,
        stages=1,
        layers=8,
        dp=1,
        usable_bytes=usable * GIB,
        gpu_memory_utilization=utilization,
        weights=((Component.DENSE_MLP, weights * GIB),),
        rotary_bytes=0.0,
        reserve=Reserve(activations * GIB, 0, 0, 0, 0, rest * GIB, 0, 0),
        pool=KvPool((KvGroup(1, 16),), 16000.0, kv * GIB, 8192, 8192, True),
        kv_bytes_per_token_per_rank=1000.0,
    )


@pytest.mark.parametrize(
    ("memory", "bar"),
    [
        (rank_memory(40, 10, 10, 100, 0.9), "█" * 4 + "▓▚" + "▒" * 3 + "░"),
        (rank_memory(0.01, 0.01, 0, 100, 1.0), "█" + "▓" + "▒" * 8),
        (rank_memory(89, 0.5, 0.5, 100, 0.9), "█" * 7 + "▓▚" + "░"),
    ],
)
def test_the_memory_bar(memory: RankMemory, bar: str) -> None:
    assert memory_bar(memory, 10).plain == bar


@given(
    usable=st.floats(4, 300),
    weights=st.floats(0.001, 0.7),
    reserve=st.floats(0.001, 0.1),
    utilization=st.floats(0.9, 1.0),
    width=st.integers(10, 120),
)
def test_the_bar_is_as_wide_as_asked_and_shows_every_part(
    usable: float, weights: float, reserve: float, utilization: float, width: int
) -> None:
    memory = rank_memory(weights * usable, reserve * usable, reserve * usable, usable, utilization)
    bar = memory_bar(memory, width).plain
    assert len(bar) == width
    assert {"█", "▓", "▚"} <= set(bar)
    assert ("▒" in bar) == (memory.kv_bytes > 0)


def test_stages_that_differ_have_a_bar_each() -> None:
    name = "meta-llama/Llama-3.1-8B-Instruct"
    model = locate_model(name, prepare=False).spec
    made = planned(name, "8xL4", request=LayoutRequest(pp=3))
    text = shown(made, model=model)
    assert [f"stage {n} █" in text for n in range(3)] == [True] * 3
    assert "stage 0 █" not in shown(made)
    many = shown(planned(name, "8xL4", request=LayoutRequest(pp=8)), model=model)
    assert "stage 7 █" in many
    assert "stages between" in many


@pytest.mark.parametrize(
    ("made", "lines"),
    [
        (
            planned(DEEPSEEK, "4x8xH200", request=LayoutRequest(tp=8)),
            ["4 instances", "list price: 32 x H200 at $", "per instance, of 1,280 tokens"],
        ),
        (planned(SMOL, "MI355X"), ["tokens/s per user", "$ per million tokens"]),
    ],
)
def test_predictions_have_ranges_and_a_price(made: Plan, lines: list[str]) -> None:
    text = shown(made)
    point, error = made.point, made.typical_error
    low, high = (1e3 * point.tpot_seconds * (1 + sign * error.tpot) for sign in (-1, 1))
    assert f"{number(low)} to {number(high)} ms" in text
    for line in (*lines, "half of the predictions"):
        assert line in text


def test_a_gpu_without_a_price_says_so() -> None:
    base = parse_cluster("8xH100").node_groups[0]
    free = replace(base, gpu=replace(base.gpu, price_per_hour_usd=None))
    made = plan(locate_model(SMOL, prepare=False).spec, Cluster((free,)))
    assert shown(made).count("no list price") == 2


CASES = [
    (SMOL, "2xL4", LayoutRequest(pp=2)),
    (DEEPSEEK, "16xH200", LayoutRequest(tp=8, dp=2, ep=16)),
    ("Qwen/Qwen3-235B-A22B-FP8", "8xH100", LayoutRequest(tp=4)),
]


@pytest.mark.parametrize(("name", "cluster", "request_"), CASES)
@pytest.mark.parametrize("tpot_seconds", [0.02, 0.2])
def test_explained_times_end_in_the_plans_numbers(
    name: str, cluster: str, request_: LayoutRequest, tpot_seconds: float
) -> None:
    workload = Workload(isl=2000, osl=300, tpot_seconds=tpot_seconds, ttft_seconds=30)
    made = planned(name, cluster, request=request_, workload=workload)
    lines = list(time_lines(made))
    for start, seconds in (
        ("TPOT", made.point.tpot_seconds),
        ("TTFT", made.point.ttft_seconds),
        ("decode step", made.point.decode.total),
    ):
        line = next(one for one in lines if one.startswith(start))
        *_, terms, total = line.removesuffix(" ms").split(" = ")
        assert float(total) == pytest.approx(1e3 * seconds, abs=0.006)
        parts = [float(part.split()[-1]) for part in terms.split(" + ")]
        assert sum(parts) == pytest.approx(1e3 * seconds, abs=0.04)


def test_layouts_within_the_limits_come_first() -> None:
    rows = layout_rows(planned("meta-llama/Llama-3.1-405B-Instruct", "6x8xH200"))
    verdicts = [row[-1] for row in rows[1:]]
    assert verdicts == sorted(verdicts, reverse=True)
    assert {"yes", "no"} == set(verdicts)
