"""The benchmark's arithmetic: percentiles, medians, ratios and targets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.front.asked import prompts
from benchmarks.front.measuring import client_shares
from benchmarks.front.summary import (
    BARE,
    OURS,
    Bounds,
    Cell,
    Request,
    over_rounds,
    percentile,
    ratio,
    summarize,
    targets,
)


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([3.0], 0.5, 3.0),
        ([3.0], 0.99, 3.0),
        ([4.0, 1.0, 3.0, 2.0], 0.5, 2.0),
        ([4.0, 1.0, 3.0, 2.0], 0.99, 4.0),
        ([float(n) for n in range(1, 101)], 0.5, 50.0),
        ([float(n) for n in range(1, 101)], 0.99, 99.0),
        ([float(n) for n in range(1, 101)], 1.0, 100.0),
    ],
)
def test_percentile(values: list[float], share: float, expected: float) -> None:
    assert percentile(values, share) == expected


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1.0], 0.0), ([1.0], 1.1)])
def test_percentile_refuses(values: list[float], share: float) -> None:
    with pytest.raises(ValueError, match="no percentile"):
        percentile(values, share)


@given(
    values=st.lists(st.floats(0, 1e6), min_size=1),
    share=st.floats(0, 1, exclude_min=True),
)
def test_percentile_is_measured_and_covers_its_share(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values)


def test_summarize_counts_the_whole_span() -> None:
    requests = [
        Request(start=10.0, first_token=10.5, end=12.5, output_tokens=5),
        Request(start=11.0, first_token=11.1, end=14.1, output_tokens=4),
        Request(start=12.5, first_token=12.8, end=16.0, output_tokens=9),
    ]
    cell = summarize(requests, cpu_seconds=1.5)
    assert cell.ttft_p50_seconds == pytest.approx(0.3)
    assert cell.ttft_p99_seconds == pytest.approx(0.5)
    # Means by request: 2 / 4 = 0.5, 3 / 3 = 1.0, 3.2 / 8 = 0.4.
    assert cell.tpot_seconds == pytest.approx(0.5)
    assert cell.requests_per_second == pytest.approx(3 / 6)
    assert cell.cpu_seconds_per_request == pytest.approx(0.5)


def test_over_rounds_takes_each_median_by_itself() -> None:
    cells = [
        Cell(1.0, 9.0, 2.0, 5.0, 0.1),
        Cell(2.0, 8.0, 1.0, 4.0, 0.3),
        Cell(3.0, 7.0, 3.0, 6.0, 0.2),
    ]
    assert over_rounds(cells) == Cell(2.0, 8.0, 2.0, 5.0, 0.2)


def test_ratio_is_ours_over_bare() -> None:
    ours, bare = Cell(0.3, 1.0, 0.1, 8.0, 1.0), Cell(0.2, 1.0, 0.1, 10.0, 1.0)
    assert ratio(ours, bare, "ttft_p50_seconds") == pytest.approx(1.5)
    assert ratio(ours, bare, "requests_per_second") == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("p50", "p99", "throughput", "start_difference", "met"),
    [
        (1.0, 1.0, 1.0, 0.0, [True, True, True, True]),
        (1.1, 1.3, 0.95, 10.0, [True, True, True, True]),
        (1.11, 1.3, 0.95, 10.0, [False, True, True, True]),
        (1.1, 1.31, 0.95, 10.0, [True, False, True, True]),
        (1.1, 1.3, 0.94, 10.0, [True, True, False, True]),
        (1.1, 1.3, 0.95, 10.1, [True, True, True, False]),
    ],
)
def test_targets_judge_every_number_of_streams(
    p50: float, p99: float, throughput: float, start_difference: float, met: list[bool]
) -> None:
    bare = Cell(1.0, 1.0, 1.0, 1.0, 1.0)
    cells = {
        (BARE, 1): bare,
        (OURS, 1): Cell(p50, p99, 9.0, throughput, 9.0),
        (BARE, 128): bare,
        (OURS, 128): Cell(9.0, 9.0, 9.0, 0.1, 9.0),
    }
    judged = targets(cells, {BARE: 40.0, OURS: 40.0 + start_difference}, Bounds())
    assert [target.met for target in judged] == [*met[:3], False, False, False, met[3]]


def test_same_seed_same_prompts_other_seed_others() -> None:
    def first(seed: int) -> list[str]:
        made = prompts(seed, 100)
        return [next(made) for _ in range(20)]

    assert first(1) == first(1)
    both = first(1) + first(2)
    assert len(set(both)) == len(both)
    assert {len(prompt.split()) for prompt in both} == {100}


@pytest.mark.parametrize(
    ("streams", "requests", "cores", "shares"),
    [
        (1, 10, 16, [(1, 10)]),
        (8, 40, 16, [(8, 40)]),
        (128, 512, 2, [(128, 512)]),
        (32, 130, 16, [(8, 33), (8, 33), (8, 32), (8, 32)]),
        (130, 512, 8, [(65, 256), (65, 256)]),
    ],
)
def test_client_processes_share_streams_and_requests(
    streams: int, requests: int, cores: int, shares: list[tuple[int, int]]
) -> None:
    assert client_shares(streams, requests, cores) == shares
