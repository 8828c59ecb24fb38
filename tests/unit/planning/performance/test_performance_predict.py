"""Known points of the performance model: what must come out near by physics alone."""

import json
from dataclasses import fields
from importlib.resources import files
from math import inf

import pytest
from performance_cases import MODELS

from rayserve_par.errors import RefusedError
from rayserve_par.hardware import gpu_by_name
from rayserve_par.planning import Layout
from rayserve_par.planning.performance import (
    decode_seconds,
    predict,
    predictor,
    prefill_seconds,
    shipped_constants,
)
from rayserve_par.planning.performance.constants import (
    EngineConstants,
    constants_from_mapping,
    shipped_error,
)
from rayserve_par.planning.performance.step import rank_speed
from rayserve_par.planning.performance.work import pass_work

LLAMA_8B = "meta-llama/Llama-3.1-8B-Instruct"
LLAMA_405B = "meta-llama/Llama-3.1-405B-Instruct"
DEEPSEEK = "deepseek-ai/DeepSeek-V3.1"
QWEN = "Qwen/Qwen3-235B-A22B-FP8"


@pytest.mark.parametrize(
    ("name", "gpu", "layout", "most_share"),
    [
        # Reading the weights once bounds a step of one stream from below.
        (LLAMA_8B, "H100", Layout(), 0.95),
        (LLAMA_8B, "L4", Layout(), 0.99),
        (LLAMA_405B, "H200", Layout(tp=8), 0.95),
        (LLAMA_405B, "B200", Layout(tp=8), 0.95),
    ],
)
def test_one_stream_takes_at_least_as_long_as_reading_the_weights(
    name: str, gpu: str, layout: Layout, most_share: float
) -> None:
    model, card = MODELS[name], gpu_by_name(gpu)
    seconds = decode_seconds(model, card, layout, batch=1, context_tokens=1000)
    # The input embedding is looked up, not read.
    read = (model.weight_bytes - model.embedding.weight_bytes) / layout.tp
    least = read / card.hbm_bytes_per_second
    assert least < most_share * seconds
    assert seconds < 3 * least


def test_a_prompt_takes_at_least_its_operations_at_peak() -> None:
    model, card = MODELS[LLAMA_8B], gpu_by_name("H100")
    seconds = prefill_seconds(model, card, Layout(), prompt_tokens=8192)
    least = 2 * 7e9 * 8192 / card.bf16_flops
    assert least < seconds < 4 * least


def test_a_moe_reads_only_the_experts_that_are_hit() -> None:
    model, card = MODELS[DEEPSEEK], gpu_by_name("H200")
    load = predictor(model, card, Layout(tp=8)).load

    def expert_bytes(sequences: int) -> float:
        return pass_work(load, sequences=sequences, new_tokens=1, context_tokens=1000).expert_bytes

    everything = expert_bytes(100_000)
    assert expert_bytes(1) == pytest.approx(everything * 8 / 256)
    assert 1.9 < expert_bytes(2) / expert_bytes(1) < 2
    assert 0.85 < expert_bytes(64) / everything < 0.9


def test_mla_is_not_divided_by_tp() -> None:
    card = gpu_by_name("H200")

    def kv_bytes(name: str, tp: int) -> float:
        load = predictor(MODELS[name], card, Layout(tp=tp)).load
        return pass_work(load, sequences=4, new_tokens=1, context_tokens=1000).kv_bytes

    assert kv_bytes(DEEPSEEK, 8) == kv_bytes(DEEPSEEK, 1)
    assert kv_bytes(LLAMA_405B, 8) == pytest.approx(kv_bytes(LLAMA_405B, 1) / 8)
    assert kv_bytes(QWEN, 8) == pytest.approx(kv_bytes(QWEN, 1) / 4)  # 4 KV heads, repeated


@pytest.mark.parametrize(
    ("layout", "reduces", "exchanges", "hops"),
    [
        (Layout(), 0, 0, 0),
        (Layout(tp=8), 122, 0, 0),
        (Layout(tp=8, pp=2), 122, 0, 1),
        (Layout(tp=8, ep=8), 122, 0, 0),
        # With DP, an exchange before and after the 58 MoE layers takes the place of one of the two.
        (Layout(dp=8, ep=8), 0, 116, 0),
        (Layout(tp=2, dp=4, ep=8), 64, 116, 0),
        (Layout(pp=4, dp=2, ep=2), 0, 116, 3),
    ],
)
def test_what_crosses_links_in_one_pass(
    layout: Layout, reduces: int, exchanges: int, hops: int
) -> None:
    load = predictor(MODELS[DEEPSEEK], gpu_by_name("H200"), layout).load
    work = pass_work(load, sequences=3, new_tokens=1, context_tokens=100)
    assert (work.all_reduces, work.expert_exchanges, work.stage_hops) == (reduces, exchanges, hops)
    assert work.message_bytes == 3 * 7168 * 2


def test_stages_on_one_node_hop_over_its_links() -> None:
    card = gpu_by_name("H100")
    near, far = rank_speed(card, stages_share_a_node=True), rank_speed(card)
    assert (near.nic, far.nic) == (card.link_bytes_per_second, card.nic_bytes_per_second)
    assert near.leaving_share == far.leaving_share == 0
    assert rank_speed(card, nodes_per_stage=4).leaving_share == 0.75


def test_streams_beyond_kv_memory_wait() -> None:
    asked = {"isl": 1000, "osl": 1000, "streams": 64}
    model, card = MODELS[LLAMA_8B], gpu_by_name("H100")
    free = predict(model, card, Layout(), **asked)
    full = predict(model, card, Layout(), **asked, kv_tokens=32_000)
    assert (free.running, full.running) == (64, 16)
    assert full.tpot_seconds < free.tpot_seconds
    # Three of four requests wait for three rounds of 1000 steps.
    assert full.ttft_seconds > 3 * 1000 * full.decode.total
    assert full.tokens_per_second < free.tokens_per_second


def test_stages_and_dp_ranks_share_the_streams() -> None:
    card = gpu_by_name("H200")
    stages = predictor(MODELS[LLAMA_405B], card, Layout(tp=8, pp=2))
    alone = predictor(MODELS[LLAMA_405B], card, Layout(tp=8))
    half = alone.decode_time(batch=32, context_tokens=1000)
    shared = stages.decode_time(batch=64, context_tokens=1000)
    assert shared.dense == pytest.approx(half.dense)
    ranks = predictor(MODELS[DEEPSEEK], card, Layout(dp=8, ep=8))
    one = pass_work(ranks.load, sequences=8, new_tokens=1, context_tokens=1000)
    assert ranks.decode_time(batch=64, context_tokens=1000).host == pytest.approx(
        shipped_constants().engine("vllm").step_seconds
        + one.sequences * shipped_constants().engine("vllm").sequence_seconds
    )


@pytest.mark.parametrize(("isl", "osl", "streams"), [(0, 10, 1), (10, 0, 1), (10, 10, 0.5)])
def test_what_cannot_be_asked(isl: float, osl: float, streams: float) -> None:
    with pytest.raises(RefusedError, match="must all be at least 1"):
        predict(MODELS[LLAMA_8B], gpu_by_name("H100"), Layout(), isl=isl, osl=osl, streams=streams)


# The constants that are shipped


def test_at_most_thirty_constants_with_their_provenance() -> None:
    shipped = shipped_constants()
    assert shipped.count <= 30
    assert set(shipped.engines) == {"vllm", "sglang", "trtllm"}
    text = files("rayserve_par.planning.performance").joinpath("constants.json").read_text()
    written = json.loads(text)
    assert {"written_by", "evidence", "rows"} <= set(written["provenance"])
    assert constants_from_mapping(written["constants"]) == shipped
    assert 0 < shipped_error().tpot < 1
    assert 0 < shipped_error().ttft < 1


def test_constants_are_physical() -> None:
    shipped = shipped_constants()
    for one in fields(shipped):
        if one.name == "engines":
            continue
        value = getattr(shipped, one.name)
        assert 0 <= value < inf, one.name
        if one.name.endswith("_efficiency"):
            assert 0 < value <= 1, one.name
        if one.name.endswith("_seconds"):
            assert value < 0.1, one.name
    for engine in shipped.engines.values():
        assert all(getattr(engine, one.name) >= 0 for one in fields(EngineConstants))


def test_an_engine_never_measured_is_taken_as_vllm() -> None:
    shipped = shipped_constants()
    assert shipped.engine("another") == shipped.engine("vllm")
