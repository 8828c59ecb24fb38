"""Ray Serve LLM's prefix router as a policy, on Ray's own tree."""

from __future__ import annotations

import pytest

from benchmarks.routing.serve_prefix_router import serve_prefix_router

pytest.importorskip("ray")

FIRST, SECOND = "a shared beginning " * 20, "something quite different " * 20


def test_texts_with_a_common_beginning_stay_together() -> None:
    choose = serve_prefix_router(4, seed=1)
    idle = [0, 0, 0, 0]
    home = choose(FIRST + "one", idle, 1.0)
    other = choose(SECOND + "one", idle, 2.0)
    assert other != home  # the smallest tree
    assert {choose(FIRST + word, idle, 3.0) for word in ("two", "three")} == {home}
    assert choose(SECOND + "two", idle, 4.0) == other


def test_by_default_load_does_not_matter_and_with_a_threshold_it_does() -> None:
    for threshold, stays in ((float("inf"), True), (5.0, False)):
        choose = serve_prefix_router(2, seed=1, imbalanced_threshold=threshold)
        home = choose(FIRST, [0, 0], 1.0)
        busy = [0, 0]
        busy[home] = 10
        assert (choose(FIRST, busy, 2.0) == home) is stays
