"""The scaling benchmark's arithmetic."""

from __future__ import annotations

import pytest

from benchmarks.scaling import (
    Cell,
    efficiency,
    ideal_tokens_per_second,
    over_rounds,
    table,
    tokens_per_second,
)
from rayserve_par.serving.mock_engine.times import EngineTimes


def cell(rate: float) -> Cell:
    return Cell(rate, 0.1, 0.2, 0.3, 0.9)


@pytest.mark.parametrize(
    ("requests", "expected"),
    [
        ([(0.0, 4.0)], 8.0),  # 32 tokens over 4 s, the window sees half of it: 16 in 2 s
        ([(1.0, 3.0)], 16.0),
        ([(0.0, 1.0), (3.0, 4.0)], 0.0),
        ([(1.0, 2.0), (2.0, 3.0)], 32.0),
    ],
)
def test_tokens_per_second(requests: list[tuple[float, float]], expected: float) -> None:
    assert tokens_per_second(requests, 32, 1.0, 3.0) == pytest.approx(expected)


def test_ideal_is_what_the_set_times_allow() -> None:
    times = EngineTimes(
        step_base_seconds=0.1, step_seconds_per_sequence=0.0, prefill_tokens_per_second=528.0
    )
    # 16 streams x 32 tokens in 32 x 0.1 s and 16 x 33 / 528 = 1 s of prefill
    assert ideal_tokens_per_second(times, 2) == pytest.approx(2 * 512 / 4.2)


def test_efficiency_and_table() -> None:
    cells = {1: cell(100.0), 2: cell(200.0), 4: cell(360.0)}
    assert [efficiency(cells, size) for size in cells] == pytest.approx([1.0, 1.0, 0.9])
    rows = table(cells, 2).splitlines()
    assert len(rows) == 5
    assert {row.count("|") for row in rows} == {9}
    assert "| 4 | 360 | 90.0% |" in rows[-1]


def test_medians_over_rounds() -> None:
    assert over_rounds([cell(1.0), cell(9.0), cell(2.0)]) == cell(2.0)
