"""Figures of a replayed trace, and their table."""

from __future__ import annotations

import pytest

from benchmarks.routing.figures import Asked, Figures, figures, markdown


def test_figures() -> None:
    asked = [Asked(0.0, 9.0), *(Asked(10.0 + n, n / 10) for n in range(1, 11)), Asked(30.0, None)]
    found = figures(asked, [(30, 100), (90, 100)], [(0, 0), (1, 3), (2, 2)], warm_up_seconds=10.0)
    assert found == Figures(
        requests=12,
        failed=1,
        hit_rate=pytest.approx(0.6),
        ttft_p50_seconds=0.5,
        ttft_p95_seconds=1.0,
        balance=pytest.approx(1.25),  # 3 / 2 and 2 / 2; the sample without work does not count
    )


def test_table_has_ratios_to_each_reference() -> None:
    base = Figures(10, 0, 0.5, 0.2, 1.0, 1.1)
    fast = Figures(10, 1, 0.9, 0.05, 0.4, 1.5)
    text = markdown({"base": base, "fast": fast}, ["base"])
    head, rule, *rows = text.splitlines()
    assert head.count("|") == rule.count("|") == rows[0].count("|") == 10
    assert rows == [
        "| base | 50.0% | 200 ms | 1000 ms | 1.10 | 10 | 0 | 1.00 | 1.00 |",
        "| fast | 90.0% | 50 ms | 400 ms | 1.50 | 10 | 1 | 0.25 | 0.40 |",
    ]
