"""What holds for every model, GPU, layout and engine, whatever the constants are."""

from dataclasses import astuple, fields
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from performance_cases import constants, engines, gpus, models, predictors

from rayserve_par.hardware import Gpu
from rayserve_par.model import ModelSpec
from rayserve_par.planning import Layout
from rayserve_par.planning.performance import Constants, Predictor, predictor
from rayserve_par.planning.performance.step import PassTime, roofline
from rayserve_par.planning.performance.work import pass_work

batches = st.integers(1, 512)
contexts = st.integers(1, 100_000)
ALMOST = 1 + 1e-9


@settings(max_examples=60)
@given(predictors(), batches, contexts)
def test_the_parts_of_a_step_sum_to_the_total(found: Predictor, batch: int, context: int) -> None:
    time = found.decode_time(batch=batch, context_tokens=context)
    parts = astuple(time)
    assert len(parts) == len(fields(PassTime))
    assert time.total == pytest.approx(sum(parts))
    assert all(part >= 0 for part in parts)
    assert min(time.dense, time.attention, time.launch, time.host) > 0
    assert (time.experts > 0) == (found.load.num_moe_layers > 0)
    alone = found.load.layout.gpus == 1
    assert (time.communication == 0) == alone


@settings(max_examples=60)
@given(predictors(), batches, contexts, st.integers(0, 512), st.integers(0, 100_000))
def test_a_step_is_no_shorter_with_more_sequences_or_context(
    found: Predictor, batch: int, context: int, more: int, longer: int
) -> None:
    time = found.decode_time(batch=batch, context_tokens=context).total
    busier = found.decode_time(batch=batch + more, context_tokens=context).total
    farther = found.decode_time(batch=batch, context_tokens=context + longer).total
    assert time <= busier * ALMOST
    assert time <= farther * ALMOST


@settings(max_examples=60)
@given(predictors(), st.integers(2, 60_000), st.integers(0, 60_000))
def test_a_prefill_is_no_shorter_with_more_tokens(found: Predictor, tokens: int, more: int) -> None:
    assert found.prefill_seconds(tokens) <= found.prefill_seconds(tokens + more) * ALMOST


@settings(max_examples=60)
@given(predictors(), st.integers(2, 20_000), st.integers(1, 2000), st.integers(1, 512), st.data())
def test_the_operating_point_adds_up(
    found: Predictor, isl: int, osl: int, streams: int, data: st.DataObject
) -> None:
    room = data.draw(st.none() | st.integers(isl + osl, 400 * (isl + osl)))
    point = found.at(isl=isl, osl=osl, streams=streams, kv_tokens=room)
    assert point.gpus == found.load.layout.gpus
    assert point.tokens_per_second == pytest.approx(osl * point.requests_per_second)
    assert point.tokens_per_second_per_gpu * point.gpus == pytest.approx(point.tokens_per_second)
    assert point.tokens_per_second_per_user * point.tpot_seconds == pytest.approx(1)
    request_seconds = point.ttft_seconds + (osl - 1) * point.tpot_seconds
    assert point.requests_per_second * request_seconds == pytest.approx(streams)
    assert point.ttft_seconds > point.prefill_seconds > 0
    assert point.tpot_seconds >= point.decode.total
    if room is not None:
        dp = found.load.layout.dp
        assert point.running <= max(dp, dp * room / (isl + osl)) * ALMOST


@settings(max_examples=60)
@given(predictors(), st.integers(2, 8000), st.integers(1, 1000), batches, st.integers(0, 512))
def test_more_streams_never_lower_ttft_or_tpot(
    found: Predictor, isl: int, osl: int, streams: int, more: int
) -> None:
    fewer = found.at(isl=isl, osl=osl, streams=streams)
    busier = found.at(isl=isl, osl=osl, streams=streams + more)
    assert fewer.ttft_seconds <= busier.ttft_seconds * ALMOST
    assert fewer.tpot_seconds <= busier.tpot_seconds * ALMOST


@settings(max_examples=60)
@given(predictors(), st.integers(2, 8000), st.integers(1, 1000), batches)
def test_full_kv_memory_never_raises_tpot(
    found: Predictor, isl: int, osl: int, streams: int
) -> None:
    free = found.at(isl=isl, osl=osl, streams=streams)
    full = found.at(isl=isl, osl=osl, streams=streams, kv_tokens=2 * (isl + osl))
    assert full.running <= free.running
    if full.running == free.running:
        assert full == free
    else:
        assert full.running == 2 * found.load.layout.dp
        assert full.tpot_seconds <= free.tpot_seconds * ALMOST
        rounds = streams / full.running - 1
        assert full.ttft_seconds > rounds * osl * full.tpot_seconds


@settings(max_examples=80)
@given(predictors(), st.integers(1, 4096), st.integers(1, 4096))
def test_expert_bytes_never_exceed_all_experts(
    found: Predictor, sequences: int, new_tokens: int
) -> None:
    load = found.load
    work = pass_work(
        load, sequences=sequences, new_tokens=new_tokens, context_tokens=max(2, new_tokens)
    )
    everything = sum(
        layer.count * layer.experts_on_rank * layer.expert_bytes for layer in load.layers
    )
    assert work.expert_bytes <= everything * ALMOST
    tokens = sequences * new_tokens * load.layout.dp
    hit_by_all = sum(
        layer.count * layer.experts_on_rank * layer.expert_hit_share * tokens * layer.expert_bytes
        for layer in load.layers
    )
    assert work.expert_bytes <= hit_by_all * ALMOST


@settings(max_examples=40)
@given(models, gpus, engines, constants(), st.sampled_from([2, 4]), st.booleans(), contexts)
def test_stages_do_not_lower_the_latency_of_one_stream(
    model: ModelSpec,
    gpu: Gpu,
    engine: str,
    given_constants: Constants,
    pp: int,
    share: bool,
    context: int,
) -> None:
    asked: dict[str, Any] = {"engine": engine, "constants": given_constants}
    asked["stages_share_a_node"] = share
    one, several = (predictor(model, gpu, Layout(pp=stages), **asked) for stages in (1, pp))
    assert (
        one.decode_time(batch=1, context_tokens=context).total
        < several.decode_time(batch=1, context_tokens=context).total
    )
    assert one.prefill_seconds(1000) <= several.prefill_seconds(1000)


@settings(max_examples=60)
@given(models, gpus, constants(), batches, contexts)
def test_tp_lowers_the_dense_part_and_no_more_than_by_its_ranks(
    model: ModelSpec, gpu: Gpu, given_constants: Constants, batch: int, context: int
) -> None:
    steps = [
        predictor(model, gpu, Layout(tp=tp), constants=given_constants).decode_time(
            batch=batch, context_tokens=context
        )
        for tp in (1, 2, 4, 8)
        if model.num_attention_heads % tp == 0
    ]
    for before, after in pairwise(steps):
        assert before.dense / 2 <= after.dense * ALMOST
        assert after.dense < before.dense
        assert after.attention <= before.attention * ALMOST
        assert after.experts <= before.experts * ALMOST
        assert after.communication > before.communication


@settings(max_examples=60)
@given(models.filter(lambda one: one.is_moe), gpus, constants(), batches, st.integers(2, 4))
def test_experts_over_nodes_are_never_faster_than_on_one(
    model: ModelSpec, gpu: Gpu, given_constants: Constants, batch: int, nodes: int
) -> None:
    on_one, over = (
        predictor(
            model, gpu, Layout(dp=8, ep=8), constants=given_constants, nodes_per_stage=count
        ).decode_time(batch=batch, context_tokens=1000)
        for count in (1, nodes)
    )
    assert over.communication > on_one.communication
    assert over.total > on_one.total
    assert (over.dense, over.experts) == (on_one.dense, on_one.experts)


@settings(max_examples=100)
@given(st.floats(0, 10), st.floats(1e-6, 10), st.floats(1, 8))
def test_a_roofline_is_between_maximum_and_sum(memory: float, compute: float, power: float) -> None:
    found = roofline(memory, compute, power)
    assert max(memory, compute) <= found * ALMOST
    assert found <= (memory + compute) * ALMOST
