"""The planner's layout against a recommended one."""

from pathlib import Path
from typing import Any

import pytest
from evaluation_cases import LAYOUT, write_configs

from rayserve_par.cli.evaluation.config_folder import ConfigFolder
from rayserve_par.cli.evaluation.evaluate import judge
from rayserve_par.cli.evaluation.evidence import Kind, Row
from rayserve_par.cli.evaluation.forecast import Forecaster
from rayserve_par.cli.evaluation.layout_choice import Published
from rayserve_par.cli.evaluation.summary import Judged
from rayserve_par.planning import Layout


@pytest.fixture
def forecaster(tmp_path: Path) -> Forecaster:
    return Forecaster(ConfigFolder(write_configs(tmp_path, {})))


def judged(forecaster: Forecaster, **changes: Any) -> Judged:
    return judge(Row(Kind.LAYOUT, 1, {**LAYOUT, **changes}), forecaster)


@pytest.mark.parametrize(
    ("changes", "layout", "gpus"),
    [
        ({}, Layout(tp=8, ep=8), 8),
        ({"tp": 1, "dp": 8, "dp_kind": "vllm_dp"}, Layout(dp=8, ep=8), 8),
        (
            {"tp": 8, "dp": 8, "dp_kind": "attention_dp_inside_tp"},
            Layout(dp=8, ep=8),
            8,
        ),
        ({"tp": 2, "ep": 1, "dp": 4, "dp_kind": "replicas"}, Layout(tp=2), 2),
        ({"ep": None, "dp": None}, Layout(tp=8), 8),
        ({"ep": 3}, None, 8),
    ],
)
def test_published_layout(changes: dict[str, Any], layout: Layout | None, gpus: int) -> None:
    found = Published.of({**LAYOUT, **changes})
    assert found is not None
    assert (found.layout, found.gpus_per_instance) == (layout, gpus)


def test_a_row_without_gpus_cannot_be_judged() -> None:
    assert Published.of({**LAYOUT, "gpus_used": None}) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"dp": "8", "dp_kind": "replicas"},
        {"dp": [8], "tp": [8], "dp_kind": "attention_dp_inside_tp"},
        {"tp": 8.5},
        {"pp": {"a": 1}},
        {"gpus_used": "8"},
    ],
)
def test_a_recommendation_that_makes_no_sense_is_not_judged_but_chosen_for(
    forecaster: Forecaster, changes: dict[str, Any]
) -> None:
    assert Published.of({**LAYOUT, **changes}) is None
    found = judged(forecaster, **changes)
    assert found.skipped is None
    assert found.agrees is None
    assert found.predicted == judged(forecaster).predicted


@pytest.mark.parametrize(
    ("chosen", "fits", "agrees"),
    [(8, True, True), (8, False, True), (4, True, True), (4, False, False), (16, True, False)],
)
def test_agreement(chosen: int, fits: bool, agrees: bool) -> None:
    found = Published.of(LAYOUT)
    assert found is not None
    assert found.agrees(chosen, fits=fits) is agrees


def test_a_recommendation_of_as_many_gpus_agrees(forecaster: Forecaster) -> None:
    found = judged(forecaster)
    # 627 GiB of weights need more than 4 x 139.7 GiB, and a node has 8.
    assert found.predicted["chosen_gpus"] == 8
    assert set(found.predicted["chosen_layout"]) == {"tp", "pp", "dp", "ep"}
    assert found.agrees is True


def test_fewer_gpus_than_can_hold_the_model_disagree_with_the_arithmetic(
    forecaster: Forecaster,
) -> None:
    found = judged(forecaster, gpus_used=4, tp=4, ep=4)
    assert found.agrees is False
    assert found.why.startswith("TP4EP4 does not fit: weights ")
    assert "GiB" in found.why


def test_an_illegal_recommendation_says_so(forecaster: Forecaster) -> None:
    # 1536 values of an expert / 8 = 192 is no whole number of blocks of 128; TP1 is too small.
    found = judged(
        forecaster, model="Qwen/Qwen3-235B-A22B-FP8", gpus_used=1, tp=8, ep=1, hardware="H100"
    )
    assert found.agrees is False
    assert found.why.startswith("TP8 is not legal: ")


def test_nodes_that_cannot_hold_the_model_are_a_disagreement_and_skipped(
    forecaster: Forecaster,
) -> None:
    found = judged(forecaster, hardware="H100", gpus_per_node=4, gpus_used=4, tp=4, ep=4)
    assert found.agrees is False
    assert found.skipped is not None
    assert "does not fit" in found.skipped


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model": "acme/unheard-of"}, "no config for"),
        ({"hardware": "any"}, "GPU 'any' is not known"),
        ({"hardware": None}, "the row lacks hardware"),
    ],
)
def test_unknown_models_and_gpus_are_skipped_and_not_judged(
    forecaster: Forecaster, changes: dict[str, Any], reason: str
) -> None:
    found = judged(forecaster, **changes)
    assert found.agrees is None
    assert found.skipped is not None
    assert reason in found.skipped


def test_a_layout_that_is_not_stated_is_chosen_but_not_judged(forecaster: Forecaster) -> None:
    found = judged(forecaster, layout_stated=False, tp=None, gpus_used=4)
    assert found.predicted["chosen_gpus"] == 8
    assert found.agrees is None


def test_two_gpus_of_one_name_are_told_apart_by_memory(forecaster: Forecaster) -> None:
    model = "meta-llama/Llama-3.1-8B-Instruct"
    found = judged(forecaster, model=model, precision="bf16", hardware="A100", gpu_mem_gib=80)
    assert found.predicted["chosen_gpus"] == 1
    assert judged(forecaster, model=model, hardware="A100", gpu_mem_gib=60).skipped is not None
