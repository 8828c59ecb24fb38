"""What a status means in metrics, and what is counted between two of them."""

from __future__ import annotations

import importlib
import itertools
import math
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("ray", reason="metrics leave through Ray")

from rayserve_par.control.live.metrics import Row, changes, rows_of
from rayserve_par.control.live.records import ControlStatus, InstanceStatus, Mode
from rayserve_par.serving.metric_registry import CONTROLLER_METRICS, Kind

STATUS = ControlStatus(
    app="a",
    model="m",
    layout="TP2",
    gpus_per_instance=2,
    seconds=1000.0,
    mode=Mode.ACTING,
    wanted=3,
    decided=4,
    reason="forecast",
    ready=2,
    starting=1,
    draining=5,
    least=1,
    most=8,
    room=6,
    requests_per_second=12.5,
    isl=900.0,
    osl=120.0,
    ttft_target_seconds=2.0,
    tpot_target_seconds=0.05,
    ttft_seconds=0.7,
    tpot_seconds=0.04,
    predicted_ttft_seconds=0.9,
    predicted_tpot_seconds=0.03,
    correction=1.2,
    start_seconds=61.0,
    decision_seconds=0.004,
    instances=(
        InstanceStatus("x", "ready", 1, 0, 0.1, age_seconds=1.5),
        InstanceStatus("y", "ready", 1, 0, 0.1, age_seconds=7.5),
    ),
    problems=("one", "two"),
)


def _values(status: ControlStatus) -> dict[tuple[str, ...], float]:
    return {(row.name, *row.labels.values()): row.value for row in rows_of(status)}


def test_every_number_of_a_status_has_its_metric() -> None:
    assert _values(STATUS) == {
        ("control_info", "TP2", "acting"): 1,
        ("instances", "ready"): 2,
        ("instances", "starting"): 1,
        ("instances", "draining"): 5,
        ("control_look_timestamp_seconds",): 1000.0,
        ("control_problems",): 2,
        ("control_oldest_report_seconds",): 7.5,
        ("control_decision_seconds",): 0.004,
        ("instances_wanted",): 3,
        ("instances_decided",): 4,
        ("instances_least",): 1,
        ("instances_most",): 8,
        ("instances_room",): 6,
        ("gpus_wanted",): 6,
        ("control_start_seconds",): 61.0,
        ("control_load_requests_per_second",): 12.5,
        ("control_load_isl_tokens",): 900.0,
        ("control_load_osl_tokens",): 120.0,
        ("control_target_ttft_seconds",): 2.0,
        ("control_target_tpot_seconds",): 0.05,
        ("control_measured_ttft_seconds",): 0.7,
        ("control_measured_tpot_seconds",): 0.04,
        ("control_predicted_ttft_seconds",): 0.9,
        ("control_predicted_tpot_seconds",): 0.03,
        ("control_step_correction",): 1.2,
    }


def test_every_metric_of_the_registry_comes_from_a_status() -> None:
    rows = (*rows_of(STATUS), *changes(replace(STATUS, wanted=1, seconds=0.0), STATUS))
    assert {f"rayserve_par_{row.name}" for row in rows} == set(CONTROLLER_METRICS)
    for row in rows:
        metric = CONTROLLER_METRICS[f"rayserve_par_{row.name}"]
        assert metric.labels == ("application", "model", *row.labels)
        assert (metric.kind is Kind.COUNTER) is (row.name.endswith("_total"))


@pytest.mark.parametrize(
    ("field", "value", "name"),
    [
        ("room", None, "instances_room"),
        ("ttft_seconds", None, "control_measured_ttft_seconds"),
        ("tpot_seconds", None, "control_measured_tpot_seconds"),
        ("predicted_ttft_seconds", None, "control_predicted_ttft_seconds"),
        ("predicted_ttft_seconds", math.inf, "control_predicted_ttft_seconds"),
        ("predicted_tpot_seconds", math.nan, "control_predicted_tpot_seconds"),
        ("instances", (), "control_oldest_report_seconds"),
    ],
)
def test_what_is_not_known_has_no_row(field: str, value: object, name: str) -> None:
    assert {"room", "instances", field} <= {one.name for one in fields(ControlStatus)}
    changed = replace(STATUS, **{field: value})  # type: ignore[arg-type]
    assert _values(STATUS).keys() - _values(changed).keys() == {(name,)}


@pytest.mark.parametrize(
    ("wanted", "seconds", "expected"),
    [
        (3, 1002.0, [Row("decisions_total", 1, {"reason": "forecast"})]),
        (
            5,
            1002.0,
            [
                Row("decisions_total", 1, {"reason": "forecast"}),
                Row("instance_changes_total", 1, {"direction": "up"}),
            ],
        ),
        (
            1,
            1002.0,
            [
                Row("decisions_total", 1, {"reason": "forecast"}),
                Row("instance_changes_total", 1, {"direction": "down"}),
            ],
        ),
        (5, 1000.0, []),
    ],
)
def test_changes(wanted: int, seconds: float, expected: list[Row]) -> None:
    assert list(changes(STATUS, replace(STATUS, wanted=wanted, seconds=seconds))) == expected


def test_the_first_status_is_no_change_of_number() -> None:
    assert [row.name for row in changes(None, STATUS)] == ["decisions_total"]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 5)), max_size=30))
def test_counters_of_each_application_add_up(looks: list[tuple[str, int]]) -> None:
    module = importlib.import_module("rayserve_par.control.live.metrics")
    told: dict[tuple[str, ...], float] = {}

    class Counting:
        def __init__(self, name: str) -> None:
            self.name = name

        def set(self, value: float, tags: dict[str, str]) -> None:
            told[self.name, *tags.values()] = value

        def inc(self, value: float, tags: dict[str, str]) -> None:
            key = (self.name, *tags.values())
            told[key] = told.get(key, 0) + value

    exporter = module.ControlMetrics.__new__(module.ControlMetrics)
    exporter._made = {name: Counting(name) for name in CONTROLLER_METRICS}
    exporter._latest = {}
    for number, (app, wanted) in enumerate(looks):
        exporter.export(replace(STATUS, app=app, wanted=wanted, seconds=float(number)))
    for app in "ab":
        wants = [wanted for one, wanted in looks if one == app]
        pairs = list(itertools.pairwise(wants))
        counts = {
            "up": sum(after > before for before, after in pairs),
            "down": sum(after < before for before, after in pairs),
        }
        for direction, count in counts.items():
            key = ("rayserve_par_instance_changes_total", app, "m", direction)
            assert told.get(key, 0) == count
        decisions = ("rayserve_par_decisions_total", app, "m", "forecast")
        assert told.get(decisions, 0) == len(wants)
        if wants:
            assert told["rayserve_par_instances_wanted", app, "m"] == wants[-1]
