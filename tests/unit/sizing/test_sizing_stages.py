"""Layers per stage as vLLM's get_pp_indices gives them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayserve_par.errors import RefusedError
from rayserve_par.sizing.stages import stage_ranges


@pytest.mark.parametrize(
    ("layers", "pp", "counts"),
    [
        (30, 1, [30]),
        (30, 2, [15, 15]),
        (30, 4, [7, 8, 8, 7]),
        (61, 2, [31, 30]),
        (61, 3, [20, 21, 20]),
        (61, 4, [15, 15, 16, 15]),
        (61, 8, [7, 7, 8, 8, 8, 8, 8, 7]),
        (94, 4, [23, 24, 24, 23]),
        (126, 4, [31, 32, 32, 31]),
        (126, 16, [7] + [8] * 14 + [7]),
        (7, 4, [2, 2, 2, 1]),
        (3, 3, [1, 1, 1]),
    ],
)
def test_counts(layers: int, pp: int, counts: list[int]) -> None:
    assert [len(stage) for stage in stage_ranges(layers, pp)] == counts


@given(st.integers(1, 200), st.integers(1, 64))
def test_stages_cover_every_layer_once(layers: int, pp: int) -> None:
    if pp > layers:
        with pytest.raises(RefusedError, match=f"{layers} layers cannot make {pp} PP stages"):
            stage_ranges(layers, pp)
        return
    stages = stage_ranges(layers, pp)
    assert [layer for stage in stages for layer in stage] == list(range(layers))
    lengths = [len(stage) for stage in stages]
    assert max(lengths) - min(lengths) <= 1
    assert lengths[-1] == min(lengths)


def test_no_stage_is_refused() -> None:
    with pytest.raises(RefusedError):
        stage_ranges(4, 0)
