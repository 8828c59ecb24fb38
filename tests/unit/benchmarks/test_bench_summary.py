"""The benchmark's arithmetic: percentiles, medians, ratios and targets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.load import prompts
from benchmarks.summary import (
    BARE,
    OURS,
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
    cell = summarize(requests)
    assert cell.ttft_p50_seconds == pytest.approx(0.3)
    assert cell.ttft_p99_seconds == pytest.approx(0.5)
    # Means by request: 2 / 4 = 0.5, 3 / 3 = 1.0, 3.2 / 8 = 0.4.
    assert cell.tpot_seconds == pytest.approx(0.5)
    assert cell.requests_per_second == pytest.approx(3 / 6)


def test_over_rounds_takes_each_median_by_itself() -> None:
    cells = [Cell(1.0, 9.0, 2.0, 5.0), Cell(2.0, 8.0, 1.0, 4.0), Cell(3.0, 7.0, 3.0, 6.0)]
    assert over_rounds(cells) == Cell(2.0, 8.0, 2.0, 5.0)


def test_ratio_is_ours_over_bare() -> None:
    ours, bare = Cell(0.3, 1.0, 0.1, 8.0), Cell(0.2, 1.0, 0.1, 10.0)
    assert ratio(ours, bare, "ttft_p50_seconds") == pytest.approx(1.5)
    assert ratio(ours, bare, "requests_per_second") == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("ttft_ratio", "throughput_ratio", "start_difference", "met"),
    [
        (1.0, 1.0, 0.0, [True, True, True]),
        (1.5, 0.6, 10.0, [True, True, True]),
        (1.51, 0.6, 10.0, [False, True, True]),
        (1.5, 0.59, 10.0, [True, False, True]),
        (1.5, 0.6, 10.1, [True, True, False]),
        (0.5, 2.0, -5.0, [True, True, True]),
    ],
)
def test_targets(
    ttft_ratio: float, throughput_ratio: float, start_difference: float, met: list[bool]
) -> None:
    cells = {
        (BARE, 1): Cell(1.0, 1.0, 1.0, 1.0),
        (OURS, 1): Cell(ttft_ratio, 9.0, 9.0, 0.1),
        (BARE, 32): Cell(1.0, 1.0, 1.0, 1.0),
        (OURS, 32): Cell(9.0, 9.0, 9.0, throughput_ratio),
    }
    judged = targets(cells, {BARE: 40.0, OURS: 40.0 + start_difference})
    assert [target.met for target in judged] == met


def test_same_seed_same_prompts_other_seed_others() -> None:
    def first(seed: int) -> list[str]:
        made = prompts(seed)
        return [next(made) for _ in range(20)]

    assert first(1) == first(1)
    both = first(1) + first(2)
    assert len(set(both)) == len(both)
    assert {len(prompt.split()) for prompt in both} == {100}
