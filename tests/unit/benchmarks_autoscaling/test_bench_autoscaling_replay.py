"""The replay's parts, and the simulator against the mock engine's own scheduler without a clock."""

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.autoscaling.decision_time import seconds_of, state_of
from benchmarks.autoscaling.engine_kinds import KINDS, MOCK
from benchmarks.autoscaling.fit_to_replay import distance, fitted_to
from benchmarks.autoscaling.latency import (
    Percentiles,
    latencies,
    off,
    percentiles,
    simulated,
    table,
)
from benchmarks.autoscaling.replay import Replayed, Run, slice_of, times_for
from benchmarks.autoscaling.set_times import Probe, SetTimes, fitted, stretched, times_of
from rayserve_par.control.decide.scale import ScalePolicy
from rayserve_par.control.decide.settings import Bounds, ScaleSettings
from rayserve_par.control.simulate.engine import EngineLimits
from rayserve_par.control.simulate.request import Arrival
from rayserve_par.serving.mock_engine.scheduler import Request, Scheduler
from rayserve_par.serving.mock_engine.times import EngineTimes
from tests.unit.control.instances_of_llama import instance_model

LIMITS = EngineLimits(MOCK.kv_tokens, MOCK.max_num_seqs, MOCK.max_num_batched_tokens)
TIMES = times_of(MOCK, [Probe(1, 100, 0.0, 0.0)])


def test_times_of_the_mock_engine_are_its_own() -> None:
    own = SetTimes(0.03, 0.0003, 6000.0, front_seconds=0.0)
    assert own == TIMES
    assert TIMES.decode(10, 500.0) == pytest.approx(MOCK.step_seconds(10, 0))
    assert TIMES.mixed(600, 0.0, 4, 500.0) == pytest.approx(MOCK.step_seconds(5, 600))
    lone = TIMES.mixed(100, 0, 0, 0)
    slower = times_of(MOCK, [Probe(1, 100, lone + 0.012, 0.0), Probe(8, 100, 9.0, 0.0)])
    assert slower.front_seconds == pytest.approx(0.012)


@given(
    base=st.floats(0.001, 0.1),
    each=st.floats(0.0, 0.01),
    prefill=st.floats(500.0, 50_000.0),
    front=st.floats(0.0, 0.05),
)
def test_what_is_fitted_is_what_was_there(
    base: float, each: float, prefill: float, front: float
) -> None:
    true = SetTimes(base, each, prefill, front)
    probes = [
        Probe(many, isl, true.mixed(isl, 0, 0, 0) + front, true.decode(many, 0))
        for many, isl in ((1, 32), (1, 256), (1, 480), (4, 32), (8, 32))
    ]
    found = fitted(probes)
    assert found.base_seconds == pytest.approx(base, rel=1e-6, abs=1e-9)
    assert found.seconds_per_sequence == pytest.approx(each, rel=1e-3, abs=1e-8)
    assert found.prefill_tokens_per_second == pytest.approx(prefill, rel=1e-6)
    assert found.front_seconds == pytest.approx(front, abs=1e-6)


def test_probes_without_sense_are_refused() -> None:
    with pytest.raises(RuntimeError, match="probes make no sense"):
        fitted([Probe(1, 32, 0.2, 0.03), Probe(1, 256, 0.1, 0.03), Probe(4, 32, 0.2, 0.04)])


def test_a_stretched_slice_has_the_work_that_was_asked_for() -> None:
    arrivals = [Arrival(100.0 + one, 600, 10) for one in range(11)]
    moved, factor = stretched(arrivals, TIMES, instances=2, busy=0.5)
    assert (moved[0].seconds, moved[0].isl) == (0.0, 600)
    # 11 requests of 130.3 ms each over two instances, half busy.
    assert moved[-1].seconds == pytest.approx(11 * 0.1303)
    assert factor == pytest.approx(11 * 0.1303 / 10)


def test_a_slice_leaves_out_what_is_too_long() -> None:
    trace = [Arrival(float(one), 100 * one, 1) for one in range(1, 9)]
    found = slice_of(trace, start=2.5, count=3, tokens=0.5, longest=300)
    assert [(one.seconds, one.isl, one.osl) for one in found] == [
        (3, 150, 2),
        (4, 200, 2),
        (5, 250, 2),
    ]
    with pytest.raises(SystemExit, match=r"has 3 such requests from 2\.5 s on"):
        slice_of(trace, start=2.5, count=4, tokens=0.5, longest=300)


def test_percentiles_and_table() -> None:
    real = percentiles([one / 100 for one in range(101)], [one / 1000 for one in range(101)])
    assert real.ttft_p95 == pytest.approx(0.95)
    assert real.tpot_p50 == pytest.approx(0.05)
    shown = table(real, Percentiles(0.6, 0.95, 0.05, 0.076))
    assert "| TTFT p50 | 500.0 ms | 600.0 ms | +20.0% |" in shown
    assert "| TPOT p95 | 95.0 ms | 76.0 ms | -20.0% |" in shown
    assert off(2.0, 1.0) == -0.5


def test_the_simulator_agrees_with_the_mock_engines_scheduler() -> None:
    draw = random.Random(3)
    arrivals, now = [], 0.0
    for _ in range(400):
        now += draw.expovariate(1.6)
        arrivals.append(Arrival(now, draw.randint(100, 4000), draw.randint(5, 60)))
    theirs = percentiles(*scheduled(arrivals))
    ours = simulated(arrivals, TIMES, LIMITS, instances=1)
    assert off(theirs.ttft_p50, ours.ttft_p50) == pytest.approx(0.0, abs=0.03)
    assert off(theirs.ttft_p95, ours.ttft_p95) == pytest.approx(0.0, abs=0.05)
    assert off(theirs.tpot_p50, ours.tpot_p50) == pytest.approx(0.0, abs=0.03)


def scheduled(arrivals: Sequence[Arrival]) -> tuple[list[float], list[float]]:
    """TTFT and TPOT of every request by the mock engine's scheduler, on a clock of our own."""
    engine, now, index = Scheduler(MOCK), 0.0, 0
    first: dict[str, float] = {}
    last: dict[str, float] = {}
    while len(last) < len(arrivals):
        while index < len(arrivals) and arrivals[index].seconds <= now:
            one = arrivals[index]
            engine.add(Request(str(index), one.isl, one.osl, ()))
            index += 1
        step = engine.start_step()
        if step is None:
            now = arrivals[index].seconds
            continue
        now += step.seconds
        for token in engine.finish_step():
            first.setdefault(token.request_id, now)
            if token.finished:
                last[token.request_id] = now
    names = [str(one) for one in range(len(arrivals))]
    ttft = [first[name] - one.seconds for name, one in zip(names, arrivals, strict=True)]
    tpot = [
        (last[name] - first[name]) / (one.osl - 1)
        for name, one in zip(names, arrivals, strict=True)
    ]
    return ttft, tpot


def test_a_decision_about_a_thousand_instances_is_quick() -> None:
    model = instance_model()
    rate = 930 * model.capacity(2048.0, 28.0).requests_per_second
    policy = ScalePolicy(ScaleSettings(Bounds(1, 2000)), model, 60.0)
    took = seconds_of(policy, state_of(1000, rate, 1e4), rounds=7)
    assert len(took) == 7
    assert median(took) < 0.05


def test_times_fitted_to_a_replay_foretell_another() -> None:
    draw = random.Random(5)
    arrivals, now = [], 0.0
    for _ in range(150):
        now += draw.expovariate(3.0)
        arrivals.append(Arrival(now, draw.randint(20, 480), draw.randint(2, 60)))
    true = SetTimes(0.006, 0.0006, 11_000.0, 0.009, 5e-4)

    def simulate(times: SetTimes) -> tuple[Sequence[float], Sequence[float]]:
        return latencies(arrivals, times, LIMITS, 1)

    begin = SetTimes(0.0035, 0.0, 16_000.0, 0.004, 0.0)
    found, away = fitted_to([simulate(true)], [simulate], begin)
    assert away < 0.05
    assert distance(simulate(true), simulate(begin)) > 0.5
    # One number may stand for part of another; what they give for other requests is what counts.
    lengths = [(draw.randint(20, 480), draw.randint(2, 60)) for _ in arrivals]
    other = [Arrival(one.seconds * 0.8, *pair) for one, pair in zip(arrivals, lengths, strict=True)]
    there, ours = (simulated(other, one, LIMITS, 1) for one in (true, found))
    assert off(there.ttft_p50, ours.ttft_p50) == pytest.approx(0.0, abs=0.1)
    assert off(there.ttft_p95, ours.ttft_p95) == pytest.approx(0.0, abs=0.1)
    assert off(there.tpot_p50, ours.tpot_p50) == pytest.approx(0.0, abs=0.1)
    assert off(there.tpot_p95, ours.tpot_p95) == pytest.approx(0.0, abs=0.1)


def test_the_front_takes_longer_the_more_requests_get_tokens() -> None:
    arrivals = [Arrival(0.0, 100, 500), Arrival(1.0, 100, 500), Arrival(2.0, 100, 5)]
    busy = replace(TIMES, front_seconds_per_running=1e-3)
    plain, late = (latencies(arrivals, one, LIMITS, 1) for one in (TIMES, busy))
    assert [b - a for a, b in zip(plain[0], late[0], strict=True)] == pytest.approx(
        [0.0, 0.001, 0.002]
    )
    assert late[1] == plain[1]
    shared, alone = (latencies(arrivals, one, LIMITS, 2) for one in (busy, TIMES))
    assert shared[0][2] - alone[0][2] == pytest.approx(0.001)


def test_the_front_is_what_is_left_of_a_prompt_in_chunks() -> None:
    chunked = EngineTimes(max_num_seqs=64, max_num_batched_tokens=64)
    whole = sum(chunked.step_seconds(1, tokens) for tokens in (64, 64, 64, 8))
    probes = [Probe(1, 200, whole + 0.004, 0.0)]
    assert times_of(chunked, probes).front_seconds == pytest.approx(0.004)


def test_a_run_is_judged_from_its_record_as_it_was() -> None:
    arrivals = tuple(Arrival(one / 2, 50 + 7 * one, 10 + one % 9) for one in range(40))
    limits = KINDS["tiny-llama"].limits
    true = SetTimes(0.006, 0.0006, 11_000.0, 0.009, 5e-4)
    ttft, tpot = latencies(arrivals, true, limits, 1)
    there = Replayed(900.0, arrivals, tuple(ttft), tuple(tpot), 0.001)
    run = Run("tiny-llama", 1, 2, SetTimes(0.003, 0.0, 16_000.0), (there,), (there, there))
    kept = Run.from_object(json.loads(json.dumps(run.as_object())))
    assert kept.by_probes == run.by_probes
    assert kept.warm_ups[0].arrivals == arrivals
    assert kept.judged[1].ttft_seconds == pytest.approx(there.ttft_seconds, abs=1e-5)
    times = times_for(kept)
    assert off(true.base_seconds, times.base_seconds) == pytest.approx(0.0, abs=0.2)
    mock = replace(run, engine="mock", warm_ups=())
    assert times_for(Run.from_object(mock.as_object())) == run.by_probes
