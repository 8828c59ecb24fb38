"""Memory on the GPU after an engine was killed: free before the next one takes any, or not."""

from __future__ import annotations

import pytest

from benchmarks.gpu.gpu_memory import release
from benchmarks.gpu.tokens import equal, prompts

KILLED = 100.0


def samples(*after: int) -> list[tuple[float, int]]:
    before = [(KILLED - 0.4, 130_000), (KILLED - 0.2, 130_000)]
    return before + [(KILLED + 0.5 * n, mib) for n, mib in enumerate(after)]


@pytest.mark.parametrize(
    ("after", "lowest", "freed", "rise"),
    [
        # The whole memory is back after half a second; the next engine begins at 1.5 s.
        ((130_000, 4, 4, 600, 130_000), 4, 0.5, 1.5),
        # In steps, each lower than the one before.
        ((130_000, 70_000, 100, 100), 100, 1.0, None),
        # The next one takes memory while the dead one's is still there.
        ((130_000, 70_000, 71_000, 10), 70_000, None, 1.0),
        # Nothing ever comes back.
        ((130_000, 130_000, 130_000), 130_000, None, None),
    ],
)
def test_release(
    after: tuple[int, ...], lowest: int, freed: float | None, rise: float | None
) -> None:
    found = release(samples(*after), idle_mib=0, killed_at=KILLED)
    assert (found.lowest_mib, found.freed_seconds, found.rise_seconds) == (lowest, freed, rise)
    assert found.freed_before_next == (freed is not None)
    assert found.serving_mib == 130_000


def test_what_was_in_use_before_the_engine_is_not_waited_for() -> None:
    found = release(samples(130_000, 5_100, 5_100), idle_mib=5_000, killed_at=KILLED)
    assert found.freed_seconds == 0.5


@pytest.mark.parametrize("at", [0.0, 1000.0])
def test_a_kill_without_samples_on_both_sides_says_so(at: float) -> None:
    with pytest.raises(ValueError, match="both sides"):
        release(samples(130_000), idle_mib=0, killed_at=at)


def test_tokens_are_compared_place_by_place() -> None:
    assert equal([[1, 2], [3, 4]], [[1, 2], [4, 3]]) == 2
    with pytest.raises(ValueError, match="zip"):
        equal([[1, 2]], [[1]])


def test_the_prompts_are_the_same_each_time() -> None:
    assert prompts() == prompts()
    assert len({tuple(prompt) for prompt in prompts()}) == len(prompts())
