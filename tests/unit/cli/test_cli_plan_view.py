"""How a plan is shown: the bar adds up, nothing is wider than the console, nothing is lost."""

from dataclasses import replace
from io import StringIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from rayserve_par.cli.plan_view import autoscaling_line, headline, memory_bar, render_plan
from rayserve_par.hardware import GIB, parse_cluster
from rayserve_par.planning import LayoutRequest, Plan, plan
from rayserve_par.serving.config import parse_args
from rayserve_par.serving.model_store.locate import locate_model
from rayserve_par.sizing import RankMemory

DEEPSEEK = "deepseek-ai/DeepSeek-V3.1"
SMOL = "HuggingFaceTB/SmolLM2-135M-Instruct"


def planned(model: str, cluster: str, **asked: Any) -> Plan:
    return plan(locate_model(model, prepare=False).spec, parse_cluster(cluster), **asked)


def shown(made: Plan, *, width: int = 100, explain: bool = False) -> str:
    console = Console(file=StringIO(), width=width, highlight=False)
    console.print(render_plan(made, explain=explain))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert isinstance(text, str)
    return text


@pytest.mark.parametrize(
    ("made", "line"),
    [
        (
            planned(DEEPSEEK, "8xB200"),
            "deepseek-ai/DeepSeek-V3.1: TP8 on 1x8xB200, 1 instance, 8 x B200 on 1 node",
        ),
        (
            planned(DEEPSEEK, "4x8xH200"),
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
    made = replace(base, refused=base.refused * 5)
    assert "and 2 more (--explain shows all)" in shown(made)
    assert shown(made).count("- TP8: routed_experts") == 3
    assert shown(made, explain=True).count("- TP8: routed_experts") == 5


def test_a_refused_layout_is_said_once() -> None:
    assert shown(planned("Qwen/Qwen3-235B-A22B-FP8", "8xH100")).count("1536 / TP 8 = 192") == 1


def test_where_auto_finds_nothing_the_view_says_so() -> None:
    made = planned(DEEPSEEK, "8xH200", request=LayoutRequest(tp=8), max_model_len=4096)
    text = " ".join(shown(made).split())
    assert made.auto is None
    assert "nothing: no layout passes the rule of thumb here" in text
    assert "below the rule of thumb's 1207.8 GB" in text


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
    args = parse_args(arguments, "a test")
    assert autoscaling_line(args, planned("openai/gpt-oss-120b", "8xH100")) == line


def rank_memory(weights: float, reserve: float, usable: float, utilization: float) -> RankMemory:
    return RankMemory(
        stage=0,
        stages=1,
        layers=8,
        dp=1,
        usable_bytes=usable * GIB,
        gpu_memory_utilization=utilization,
        weight_bytes=weights * GIB,
        reserve_bytes=reserve * GIB,
        kv_bytes_per_token_per_rank=1000.0,
    )


@pytest.mark.parametrize(
    ("memory", "bar"),
    [
        (rank_memory(50, 10, 100, 0.9), "█" * 5 + "▓" + "▒" * 3 + "░"),
        (rank_memory(0.01, 0.01, 100, 1.0), "█" + "▓" + "▒" * 8),
        (rank_memory(89, 1, 100, 0.9), "█" * 8 + "▓" + "░"),
    ],
)
def test_the_memory_bar(memory: RankMemory, bar: str) -> None:
    assert memory_bar(memory, 10).plain == bar


@given(
    usable=st.floats(4, 300),
    weights=st.floats(0.001, 0.7),
    reserve=st.floats(0.001, 0.2),
    utilization=st.floats(0.9, 1.0),
    width=st.integers(10, 120),
)
def test_the_bar_is_as_wide_as_asked_and_shows_every_part(
    usable: float, weights: float, reserve: float, utilization: float, width: int
) -> None:
    memory = rank_memory(weights * usable, reserve * usable, usable, utilization)
    bar = memory_bar(memory, width).plain
    assert len(bar) == width
    assert {"█", "▓"} <= set(bar)
    assert ("▒" in bar) == (memory.kv_bytes > 0)
