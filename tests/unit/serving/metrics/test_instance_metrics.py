"""What an instance exports: outcomes against the limits, facts, GPU-seconds, stages."""

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recording import Told

pytest.importorskip("ray", reason="metrics leave through Ray")

from rayserve_par.planning.layout import Layout
from rayserve_par.planning.request import Target
from rayserve_par.serving.metric_registry import INSTANCE_METRICS
from rayserve_par.serving.rank_table import RankRecord
from rayserve_par.serving.slo import EndedRequest, Outcome, Slo
from rayserve_par.serving.stage_places import StagePlace, stage_places

module = importlib.import_module("rayserve_par.serving.instance_metrics")

SLO = Slo(ttft_seconds=2.0, tpot_seconds=0.05)
PLAN: Any = SimpleNamespace(
    layout=Layout(tp=2, pp=2),
    auto=Layout(),
    target=Target.BALANCED,
    instances=3,
    point=SimpleNamespace(ttft_seconds=0.4, tpot_seconds=0.03, requests_per_second=7.0),
    node_group=SimpleNamespace(gpu=SimpleNamespace(price_per_hour_usd=2.5)),
)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    told = Told()
    monkeypatch.setattr(module, "ray_metrics", told.make)
    return told


@pytest.fixture
def metrics(told: Told) -> Any:
    del told
    return module.instance_metrics(model="m", instance="i", node="n", slo=SLO)


@pytest.mark.parametrize(
    ("reason", "ttft", "tpot", "outcome"),
    [
        ("stop", 2.0, 0.05, Outcome.MET),
        ("length", 0.1, None, Outcome.MET),
        ("stop", 2.1, 0.05, Outcome.TTFT),
        ("stop", 2.1, None, Outcome.TTFT),
        ("stop", 0.1, 0.051, Outcome.TPOT),
        ("stop", 3.0, 0.2, Outcome.BOTH),
        ("error", 0.1, 0.01, Outcome.ERROR),
        ("abort", 9.0, 9.0, None),
    ],
)
def test_outcome_of_a_request(
    told: Told, metrics: Any, reason: str, ttft: float, tpot: float | None, outcome: Outcome | None
) -> None:
    ended = EndedRequest(reason, 10, ttft, tpot)
    assert SLO.outcome(ended) is outcome
    metrics.record_ended(ended)
    metrics.export_counts()
    assert told.of("requests_total", reason=reason) == 1
    assert told.of("tpot_seconds") == tpot
    counted = {} if outcome is None else {outcome.value: 1.0}
    for each in Outcome:
        assert told.of("slo_requests_total", outcome=each.value) == counted.get(each.value)
        tokens = told.of("slo_output_tokens_total", outcome=each.value)
        assert tokens == (10 if each.value in counted else None)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["stop", "length", "error", "abort"]),
            st.integers(0, 1000),
            st.floats(0, 10),
            st.none() | st.floats(0, 1),
        )
    )
)
def test_every_request_counts_once_or_was_given_up(requests: list[Any]) -> None:
    told = Told()
    metrics = module.InstanceMetrics(told.make(INSTANCE_METRICS, _LABELS), SLO)
    for each in requests:
        metrics.record_ended(EndedRequest(*each))
        if each[0] == "stop":
            metrics.export_counts()
    metrics.export_counts()
    metrics.export_counts()
    counted = sum(v for (name, _), v in told.values.items() if name == "slo_requests_total")
    assert counted == sum(reason != "abort" for reason, *_ in requests)
    tokens = sum(v for (name, _), v in told.values.items() if name == "slo_output_tokens_total")
    assert tokens == sum(count for reason, count, *_ in requests if reason != "abort")


_LABELS = {"model": "m", "instance_id": "i", "node": "n"}


def test_facts_are_exported_with_the_labels_of_the_instance(told: Told, metrics: Any) -> None:
    metrics.export_facts(PLAN, verified=True, start_seconds=30.0, now_seconds=1000.0)
    assert told.of("plan_info", layout="TP2PP2", auto_layout="TP1", **_LABELS) == 1
    for name, value in {
        "plan_instances": 3,
        "plan_ttft_seconds": 0.4,
        "plan_tpot_seconds": 0.03,
        "plan_requests_per_second": 7.0,
        "instance_gpus": 4,
        "placement_verified": 1,
        "engine_start_seconds": 30.0,
        "gpu_price_usd_per_hour": 2.5,
        "slo_ttft_seconds": 2.0,
        "slo_tpot_seconds": 0.05,
    }.items():
        assert told.of(name, **_LABELS) == value, name
    assert told.of("stage_gpus") is None


def test_a_price_that_nobody_knows_is_not_exported(told: Told, metrics: Any) -> None:
    gpu = SimpleNamespace(gpu=SimpleNamespace(price_per_hour_usd=None))
    plan = SimpleNamespace(**{**vars(PLAN), "node_group": gpu, "auto": None})
    metrics.export_facts(plan, verified=False, start_seconds=1.0, now_seconds=0.0)
    assert told.of("gpu_price_usd_per_hour") is None
    assert told.of("placement_verified") == 0
    assert told.of("plan_info", auto_layout="") == 1


def test_gpu_seconds_are_the_start_and_all_time_since(told: Told, metrics: Any) -> None:
    for now_seconds in (1000.0, 1005.0, 1005.0, 1012.5):
        metrics.export_facts(PLAN, verified=True, start_seconds=30.0, now_seconds=now_seconds)
    assert told.of("gpu_seconds_total") == 4 * (30.0 + 12.5)


def test_stages_are_exported_where_they_are(told: Told, metrics: Any) -> None:
    metrics.places = (StagePlace(0, 0, "a", 2), StagePlace(0, 1, "b", 2))
    metrics.export_facts(PLAN, verified=True, start_seconds=1.0, now_seconds=0.0)
    assert told.of("stage_gpus", stage="0", dp_rank="0", node="a", model="m") == 2
    assert told.of("stage_gpus", stage="1", dp_rank="0", node="b", instance_id="i") == 2


def test_admission_counts_only_what_is_new(told: Told, metrics: Any) -> None:
    limit = SimpleNamespace(in_flight=3, limit=16)
    metrics.export_admission({"ok": 5}, limit)
    metrics.export_admission({"ok": 7, "overloaded": 1}, limit)
    assert told.of("admission_total", outcome="ok") == 7
    assert told.of("admission_total", outcome="overloaded") == 1
    assert (told.of("in_flight"), told.of("concurrency_limit")) == (3, 16)


def _rank(dp_rank: int, rank: int, node: str) -> RankRecord:
    return RankRecord(dp_rank, rank, bundle=0, actor_id="x", node_id=node, gpu=rank)


@pytest.mark.parametrize(
    ("tp", "ranks", "places"),
    [
        (1, [], ()),
        (2, [_rank(0, 0, "a"), _rank(0, 1, "a")], (StagePlace(0, 0, "a", 2),)),
        (
            2,
            [_rank(0, rank, "ab"[rank // 2]) for rank in range(4)],
            (StagePlace(0, 0, "a", 2), StagePlace(0, 1, "b", 2)),
        ),
        (
            1,
            [_rank(1, 0, "b"), _rank(0, 0, "a")],
            (StagePlace(0, 0, "a", 1), StagePlace(1, 0, "b", 1)),
        ),
        (
            2,
            [_rank(0, 0, "a"), _rank(0, 1, "b")],
            (StagePlace(0, 0, "a", 1), StagePlace(0, 0, "b", 1)),
        ),
    ],
)
def test_stage_places(tp: int, ranks: list[RankRecord], places: tuple[StagePlace, ...]) -> None:
    assert stage_places(ranks, tp) == places
