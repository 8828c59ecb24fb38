"""What a prediction may see, and what layout a row means."""

from typing import Any

import pytest
from evaluation_cases import ENGINE, LAYOUT, MEMORY, SERVED

from rayserve_par.cli.evaluation.inputs import (
    EngineInput,
    LayoutInput,
    ServedInput,
    engine_of,
    version_of,
)
from rayserve_par.errors import RefusedError
from rayserve_par.planning import Layout, Target

MEASURED = {
    ServedInput: ("ttft_ms", "tpot_ms"),
    EngineInput: (
        *("weights_gib_per_gpu", "weights_gib", "kv_gib_per_gpu", "kv_gib", "kv_tokens"),
        *("activation_peak_gib", "non_torch_gib", "cuda_graph_gib", "engine_start_s"),
    ),
    LayoutInput: ("tp", "pp", "ep", "dp", "gpus_used", "note", "dp_kind", "params_b"),
}


@pytest.mark.parametrize("kind", list(MEASURED))
def test_no_measured_field_is_an_input(
    kind: type[ServedInput] | type[EngineInput] | type[LayoutInput],
) -> None:
    assert kind.KEYS.isdisjoint(MEASURED[kind])


def test_of_the_tables_only_the_keys_are_seen() -> None:
    other = {
        **ENGINE,
        "prefill_s_by_prompt_tokens": {"512": None, "7168": "slow"},
        "tpot_s_by_batch_at_1024_prompt": {"1": -1.0, "128": [1]},
    }
    assert EngineInput.of(other) == EngineInput.of(ENGINE)


@pytest.mark.parametrize(
    ("changes", "layout"),
    [
        ({}, Layout(tp=2)),
        ({"moe_ep": 0, "moe_tp": 0}, Layout(tp=2)),
        ({"moe_ep": None, "moe_tp": None, "attention_dp": None}, Layout(tp=2)),
        ({"moe_ep": 0, "moe_tp": 1, "tp": 4, "gpus": 4}, Layout(tp=4)),
        ({"moe_ep": 2, "moe_tp": 2, "tp": 4, "gpus": 4}, Layout(tp=4, ep=2)),
        ({"moe_ep": None, "moe_tp": 2, "tp": 8, "gpus": 8}, Layout(tp=8, ep=4)),
        ({"tp": 1, "attention_dp": 4, "gpus": 4, "moe_ep": 4}, Layout(dp=4, ep=4)),
        # DP ranks counted inside TP.
        ({"tp": 8, "attention_dp": 8, "gpus": 8, "moe_ep": 8}, Layout(dp=8, ep=8)),
        ({"tp": 8, "attention_dp": 2, "gpus": 8, "moe_ep": 8}, Layout(tp=4, dp=2, ep=8)),
        ({"tp": 2, "pp": 2, "gpus": 4}, Layout(tp=2, pp=2)),
        ({"gpus": None}, Layout(tp=2)),
    ],
)
def test_layout_of_a_served_row(changes: dict[str, Any], layout: Layout) -> None:
    assert ServedInput.of({**SERVED, **changes}).layout == layout


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gpus": 3}, "TP 2 x PP 1 x DP 1 = 2 GPUs, not 3"),
        ({"moe_ep": 3}, "EP 3 does not divide"),
        ({"isl": None}, "the row lacks isl"),
        ({"isl": "long"}, "isl is 'long', not a number"),
        ({"osl": float("nan")}, "osl is nan, not a number"),
        ({"concurrency": float("inf")}, "concurrency is inf, not a number"),
        ({"tp": 0}, "tp is 0, not a whole number"),
        ({"tp": 1.5}, "tp is 1.5, not a whole number"),
        ({"tp": True}, "tp is True, not a number"),
        ({"model": 8}, "model is 8, not text"),
    ],
)
def test_a_served_row_that_makes_no_sense(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        ServedInput.of({**SERVED, **changes})


def test_engine_input() -> None:
    given = EngineInput.of(ENGINE)
    assert given.batches == (1, 128)
    assert given.prompts == (512, 7168)
    assert given.max_num_seqs == 128
    assert given.version == (0, 25)
    assert given.gpu_memory_utilization == 0.92


@pytest.mark.parametrize(
    ("ep", "layout"),
    [(False, Layout(tp=4)), (True, Layout(tp=4, ep=4)), (2, Layout(tp=4, ep=2))],
)
def test_ep_of_an_engine_is_a_flag_or_a_count(ep: bool | int, layout: Layout) -> None:
    assert EngineInput.of({**ENGINE, "tp": 4, "ep": ep}).layout == layout


def test_a_memory_row_names_no_batches_and_gets_the_usual_ones() -> None:
    given = EngineInput.of(MEMORY)
    assert given.batches == (1, 8, 32, 128)
    assert given.prompts == (512, 2048, 7168)
    assert given.max_num_seqs is None
    assert (given.engine, given.version) == ("vllm", (0, 11))
    assert given.gpu_total_gib == 79.18
    assert EngineInput.of({**MEMORY, "max_model_len": 4096}).prompts == (512, 2048)


def test_keys_that_are_no_counts_are_refused() -> None:
    with pytest.raises(RefusedError, match="keys that are no counts"):
        EngineInput.of({**ENGINE, "tpot_s_by_batch_at_1024_prompt": {"all": 1}})


@pytest.mark.parametrize(
    ("goal", "target"),
    [
        ("latency", Target.LATENCY),
        ("throughput", Target.THROUGHPUT),
        ("default", Target.BALANCED),
        (None, Target.BALANCED),
    ],
)
def test_goal(goal: str | None, target: Target) -> None:
    assert LayoutInput.of({**LAYOUT, "goal": goal}).target is target


@pytest.mark.parametrize(
    ("text", "engine", "version"),
    [
        ("vllm 0.25.0", "vllm", (0, 25)),
        ("vLLM 0.11 V1", "vllm", (0, 11)),
        ("TensorRT-LLM 1.2.0rc6", "trtllm", (1, 2)),
        ("sglang", "sglang", None),
        ("", "vllm", None),
    ],
)
def test_engine_and_version(text: str, engine: str, version: tuple[int, int] | None) -> None:
    assert (engine_of(text), version_of(text)) == (engine, version)
