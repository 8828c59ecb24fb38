"""The layout's arithmetic and labels."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayserve_par.errors import RefusedError
from rayserve_par.planning import Layout, LayoutRequest


@pytest.mark.parametrize(
    ("layout", "label", "gpus", "groups", "moe_tp"),
    [
        (Layout(), "TP1", 1, 1, 1),
        (Layout(tp=8), "TP8", 8, 1, 8),
        (Layout(pp=2), "PP2", 2, 2, 1),
        (Layout(tp=8, pp=2), "TP8PP2", 16, 2, 8),
        (Layout(tp=8, ep=8), "TP8EP8", 8, 1, 1),
        (Layout(dp=2, ep=2), "DP2EP2", 2, 2, 1),
        (Layout(tp=8, dp=2, ep=16), "TP8DP2EP16", 16, 2, 1),
        (Layout(tp=8, dp=2, ep=4), "TP8DP2EP4", 16, 2, 4),
        (Layout(tp=2, pp=3, dp=2, ep=4), "TP2PP3DP2EP4", 12, 6, 1),
    ],
)
def test_derived(layout: Layout, label: str, gpus: int, groups: int, moe_tp: int) -> None:
    assert layout.label == label
    assert (layout.gpus, layout.tp_groups, layout.moe_tp) == (gpus, groups, moe_tp)
    assert layout.ranks_per_dp_rank * layout.dp == gpus


@pytest.mark.parametrize(
    ("layout", "name"),
    [
        (Layout(tp=8), "TP"),
        (Layout(tp=8, ep=8), "MoE TP"),
        (Layout(tp=8, dp=2, ep=2), "TP"),
        (Layout(tp=8, dp=2, ep=4), "MoE TP"),
    ],
)
def test_the_ranks_of_an_expert_have_a_name(layout: Layout, name: str) -> None:
    assert layout.expert_ranks_name == name


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"tp": 0}, "tp is 0"),
        ({"pp": -1}, "pp is -1"),
        ({"dp": 0}, "dp is 0"),
        ({"ep": 0}, "ep is 0"),
        (
            {"tp": 2, "dp": 2, "ep": 3},
            r"EP 3 does not divide TP x DP = 2 x 2 = 4\. Use EP 1 or EP 4\.$",
        ),
        ({"pp": 2, "ep": 2}, r"EP 2 does not divide TP x DP = 1 x 1 = 1\. Use EP 1\.$"),
    ],
)
def test_refused(sizes: dict[str, int], message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        Layout(**sizes)
    with pytest.raises(RefusedError, match=message):
        _ = LayoutRequest(**sizes).layout  # type: ignore[arg-type]


@given(st.integers(1, 16), st.integers(1, 16), st.integers(1, 16), st.integers(1, 32))
def test_a_layout_is_made_exactly_where_ep_divides(tp: int, pp: int, dp: int, ep: int) -> None:
    if tp * dp % ep:
        with pytest.raises(RefusedError):
            Layout(tp, pp, dp, ep)
    else:
        assert Layout(tp, pp, dp, ep).moe_tp * ep == tp * dp
