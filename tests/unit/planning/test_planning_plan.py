"""Whole plans: explicit layouts, instances, warnings, JSON."""

from dataclasses import replace
from time import perf_counter
from typing import Any

import pytest
from planning_cases import (
    DEEPSEEK,
    LLAMA_8B,
    LLAMA_70B,
    LLAMA_405B,
    QWEN,
    SMOL,
    moe_model,
    planned,
)

from rayserve_par.errors import RefusedError
from rayserve_par.hardware import parse_cluster
from rayserve_par.planning import (
    Layout,
    LayoutRequest,
    Target,
    Workload,
    plan,
    plan_from_json,
    plan_to_json,
)
from rayserve_par.planning.performance import shipped_constants


@pytest.mark.parametrize(
    ("name", "cluster", "request_", "instances", "nodes_each", "own_nodes", "auto"),
    [
        (SMOL, "2x2xlogical-cpu", {"pp": 2, "across": "nodes"}, 2, 2, True, "TP1"),
        (SMOL, "2x2xlogical-cpu", {"pp": 2}, 2, 1, False, "TP1"),
        (LLAMA_405B, "16xH200", {"tp": 8, "pp": 2}, 1, 2, True, "TP8"),
        (LLAMA_405B, "16xH100", {"tp": 4, "pp": 4}, 1, 2, False, "TP8PP2"),
        (LLAMA_405B, "24xH100", {"tp": 8, "pp": 3}, 1, 3, True, "TP8PP2"),
        (DEEPSEEK, "16xH200", {"tp": 8, "dp": 2, "ep": 16}, 1, 2, True, "8 GPUs"),
        (DEEPSEEK, "16xH200", {"tp": 8, "pp": 2}, 1, 2, True, "8 GPUs"),
        (DEEPSEEK, "8xH200", {"tp": 8}, 1, 1, False, "8 GPUs"),  # below the 1.8, but it fits
        (QWEN, "16xH100", {"tp": 4, "dp": 2, "ep": 8}, 2, 1, False, "4 GPUs"),
        (LLAMA_8B, "8xH100", {"tp": 2, "pp": 2}, 2, 1, False, "TP1"),
        (LLAMA_70B, "2x4xL40S,8xH100", {"tp": 8}, 1, 1, False, "TP2"),
    ],
)
def test_an_explicit_layout_is_obeyed(
    name: str,
    cluster: str,
    request_: dict[str, Any],
    instances: int,
    nodes_each: int,
    own_nodes: bool,
    auto: str,
) -> None:
    asked = LayoutRequest(**request_)
    found = planned(name, cluster, request=asked)
    assert found.layout == asked.layout
    assert found.explicit
    assert (found.instances, found.nodes_per_instance) == (instances, nodes_each)
    assert found.across_nodes is own_nodes
    assert found.auto is not None
    assert auto in (found.auto.label, f"{found.auto.gpus} GPUs")
    assert found.auto_reasons
    assert found.reasons[0].startswith(f"asked for: {asked.layout.label}")


def test_the_layout_that_would_have_been_chosen_is_a_runner_up() -> None:
    # One TP group of whole experts is slower than several: it is obeyed, and what is better shown.
    asked = LayoutRequest(tp=8, ep=8)
    found = planned(QWEN, "8xH100", request=asked, target=Target.COST)
    assert found.auto != found.layout
    assert {one.layout for one in found.runner_ups} >= {found.auto}
    assert found.layout not in {one.layout for one in found.runner_ups}


def test_an_ep_instance_of_dp_ranks_on_two_nodes() -> None:
    asked = LayoutRequest(dp=2, ep=2, across="nodes")
    found = plan(moe_model(), parse_cluster("2x2xlogical-cpu"), request=asked)
    assert (found.layout.label, found.instances, found.across_nodes) == ("DP2EP2", 2, True)


@pytest.mark.parametrize(
    ("name", "cluster", "request_", "parts"),
    [
        (SMOL, "2x2xlogical-cpu", {"tp": 2}, ("9 / 2 = 4.5", "3 / 2 = 1.5")),
        (SMOL, "2x2xlogical-cpu", {"pp": 31}, ("30 layers cannot make 31 PP stages",)),
        (SMOL, "2x2xlogical-cpu", {"pp": 5}, ("5 = 5 GPUs", "has 4 GPUs and holds 0")),
        (
            SMOL,
            "2x2xlogical-cpu",
            {"pp": 3, "across": "nodes"},
            ("each TP group on its own node", "3 nodes per instance, 2 nodes"),
        ),
        (LLAMA_405B, "8xH100", {"tp": 8}, ("weights 94.5", "GiB > 71.26 GiB")),
        (QWEN, "8xH100", {"tp": 8}, ("1536 / TP 8 = 192", "192 / 128 = 1.5")),
        (LLAMA_70B, "2x4xL40S,4xH100", {"tp": 8}, ("8 x L40S: 8 > 4|4 x L40S: 8 > 4", "H100")),
    ],
)
def test_an_explicit_layout_that_cannot_be_is_refused_with_the_numbers(
    name: str, cluster: str, request_: dict[str, Any], parts: tuple[str, ...]
) -> None:
    with pytest.raises(RefusedError) as refused:
        planned(name, cluster, request=LayoutRequest(**request_))
    for part in parts:
        assert any(choice in str(refused.value) for choice in part.split("|"))


def test_one_request_of_the_asked_length_must_fit_an_explicit_layout() -> None:
    # 70B FP8 on one H100: the weights leave less than 16k tokens of its FP8 KV cache.
    with pytest.raises(RefusedError, match=r"one request of 16384 tokens 2\.50 GiB"):
        planned(LLAMA_70B, "1xH100", request=LayoutRequest(), max_model_len=16384)


@pytest.mark.parametrize("request_", [None, LayoutRequest(tp=8, pp=2)])
def test_instances(request_: LayoutRequest | None) -> None:
    assert planned(LLAMA_405B, "48xH100", request=request_).instances == 3
    assert planned(LLAMA_405B, "48xH100", request=request_, instances=2).instances == 2
    with pytest.raises(
        RefusedError, match=r"4 x 16 = 64 GPUs.*has 48 GPUs and holds 3 .*at most 3"
    ):
        planned(LLAMA_405B, "48xH100", request=request_, instances=4)
    with pytest.raises(RefusedError, match="instances is 0"):
        planned(LLAMA_405B, "48xH100", request=request_, instances=0)


def test_an_explicit_layout_goes_to_the_group_with_room_for_the_instances() -> None:
    asked = LayoutRequest(tp=2)
    assert planned(LLAMA_8B, "2xH100,8xH200", request=asked).node_group.name == "h100"
    found = planned(LLAMA_8B, "2xH100,8xH200", request=asked, instances=4)
    assert (found.node_group.name, found.instances, found.gpus) == ("h200", 4, 8)


@pytest.mark.parametrize(
    ("name", "cluster", "asked", "warnings"),
    [
        (LLAMA_8B, "8xH200", {}, []),
        (
            DEEPSEEK,
            "8xH200",
            {"request": LayoutRequest(tp=8), "max_model_len": 8192},
            ["TP8 has 1128 GB, below the rule of thumb's 1207.8 GB (671.0 GB x 1.8)"],
        ),
        (
            LLAMA_8B,
            "L4",
            {"max_model_len": 8192, "request": LayoutRequest(tp=2)},
            ["L4 has no NVLink"],
        ),
        (
            LLAMA_8B,
            "1xL4",
            {"request": LayoutRequest()},
            ["TP1 has 24 GB, below", "full context of 131,072 tokens"],
        ),
        (LLAMA_8B, "8xH200", {"max_model_len": 200_000}, ["exceeds the model's context"]),
        (SMOL, "2x2xlogical-cpu", {"request": LayoutRequest(pp=2)}, []),
    ],
)
def test_warnings(name: str, cluster: str, asked: dict[str, Any], warnings: list[str]) -> None:
    found = planned(name, cluster, **asked).warnings
    assert len(found) == len(warnings)
    for text, start in zip(found, warnings, strict=True):
        assert start in text


@pytest.mark.parametrize("length", [0, -5])
def test_a_length_that_cannot_be(length: int) -> None:
    with pytest.raises(RefusedError, match="max_model_len"):
        planned(LLAMA_8B, "8xH200", max_model_len=length)


def test_the_worked_example_is_explained_line_by_line() -> None:
    found = planned(DEEPSEEK, "8xB200")
    reasons = found.reasons
    assert reasons[2].endswith("= 1207.8 GB")
    assert reasons[3].endswith("8 x B200 (8 x 180 GB = 1440 GB)")
    assert reasons[4].startswith("not 4: 4 x 180 GB = 720 GB leaves no room for KV cache")
    assert reasons[5].startswith(f"{found.layout.label} on one node is the fewest GPUs per inst")
    assert reasons[6].startswith("1 instance: 1x8xB200 holds 1")


@pytest.mark.parametrize(
    ("cluster", "asked"),
    [("8xH100", {}), ("8xH100", {"request": LayoutRequest(tp=4)}), ("3x8xH200", {"instances": 5})],
)
def test_totals_are_those_of_all_instances(cluster: str, asked: dict[str, Any]) -> None:
    found = planned(LLAMA_8B, cluster, **asked)
    assert found.gpus == found.instances * found.layout.gpus
    assert found.tokens_per_second == pytest.approx(
        found.gpus * found.point.tokens_per_second_per_gpu
    )
    assert found.requests_per_second * found.workload.osl == pytest.approx(found.tokens_per_second)
    assert found.dollars_per_hour == pytest.approx(10 * found.gpus)
    assert found.dollars_per_million_tokens == pytest.approx(
        found.dollars_per_hour / (3600 * found.tokens_per_second / 1e6)
    )


def test_without_a_price_there_are_no_dollars() -> None:
    found = planned(LLAMA_8B, "8xH20")
    assert found.dollars_per_hour is None
    assert found.dollars_per_million_tokens is None
    assert all(one.dollars_per_million_tokens is None for one in found.runner_ups)


@pytest.mark.parametrize(
    ("length", "isl", "osl"), [(None, 1024, 256), (1280, 1024, 256), (1000, 800, 200), (1, 1, 1)]
)
def test_the_workload_that_nobody_gave(length: int | None, isl: int, osl: int) -> None:
    found = planned(LLAMA_8B, "8xH100", max_model_len=length).workload
    assert (found.isl, found.osl) == (isl, osl)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("isl", 0),
        ("osl", -1),
        ("requests_per_second", 0),
        ("ttft_seconds", 0),
        ("tpot_seconds", -0.1),
    ],
)
def test_a_workload_that_cannot_be(field: str, value: float) -> None:
    with pytest.raises(RefusedError, match="it must be above 0"):
        Workload(**{field: value})  # type: ignore[arg-type]


def test_constants_of_a_calibration_are_used() -> None:
    shipped = shipped_constants()
    slow = replace(shipped, hbm_efficiency=shipped.hbm_efficiency / 2)
    usual = planned(LLAMA_8B, "8xH100", target=Target.LATENCY, request=LayoutRequest())
    slower = planned(
        LLAMA_8B, "8xH100", target=Target.LATENCY, request=LayoutRequest(), constants=slow
    )
    assert slower.point.decode.dense == pytest.approx(2 * usual.point.decode.dense, rel=0.05)
    assert slower.memory == usual.memory


@pytest.mark.parametrize(
    ("name", "cluster", "asked"),
    [
        (SMOL, "2x2xlogical-cpu", {"request": LayoutRequest(pp=2, across="nodes")}),
        (DEEPSEEK, "16xH200", {}),
        (DEEPSEEK, "8xH200", {"request": LayoutRequest(tp=8)}),
        (QWEN, "3x8xH100,4xL40S", {"max_model_len": 32768}),
    ],
)
def test_json_round_trip(name: str, cluster: str, asked: dict[str, Any]) -> None:
    found = planned(name, cluster, **asked)
    again = plan_from_json(plan_to_json(found))
    assert again == found
    assert again.memory.kv_tokens == found.memory.kv_tokens


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"model_name": 3}'])
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(RefusedError, match="not a plan's JSON"):
        plan_from_json(text)


@pytest.mark.parametrize("target", [*Target])
@pytest.mark.parametrize("name", [LLAMA_70B, LLAMA_405B, DEEPSEEK, QWEN])
def test_ten_thousand_gpus_in_under_a_second(name: str, target: Target) -> None:
    rate = None if target is Target.LATENCY else 50.0
    start = perf_counter()
    found = planned(name, "1250x8xH100", target=target, workload=Workload(requests_per_second=rate))
    assert perf_counter() - start < 1
    assert 1 <= found.gpus <= 10_000


@pytest.mark.parametrize("name", [LLAMA_8B, DEEPSEEK])
def test_ten_thousand_gpus_are_all_used(name: str) -> None:
    found = planned(name, "1250x8xH100")
    assert found.gpus == 10_000


def test_two_thousand_nvl72_domains_in_under_a_second() -> None:
    start = perf_counter()
    found = planned(DEEPSEEK, "2500x4xGB200")
    assert perf_counter() - start < 1
    assert (found.layout, found.instances) == (Layout(dp=8, ep=8), 1250)
