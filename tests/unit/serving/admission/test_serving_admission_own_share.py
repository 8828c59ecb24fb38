"""What instances serve of a limit by themselves, and whose limits are the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayserve_par.serving.admission.own_share import OwnShare, limits_of

NAMES = st.sets(st.text(min_size=1, max_size=8), min_size=1, max_size=40)


@given(NAMES, st.integers(1, 200))
def test_the_shares_of_all_are_the_limit_and_each_has_one_where_there_are_enough(
    names: set[str], capacity: int
) -> None:
    shares = [OwnShare.of(one, names - {one}) for one in names]
    units = [share.units(capacity) for share in shares]
    assert sum(units) == capacity
    assert max(units) - min(units) <= 1
    assert min(units) >= 1 or capacity < len(names)
    assert sum(share.refill_per_second(2.5) for share in shares) == pytest.approx(2.5)


@given(NAMES)
def test_who_is_not_listed_yet_counts_itself(names: set[str]) -> None:
    one = min(names)
    assert OwnShare.of(one, names - {one}) == OwnShare.of(one, names)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (("a", ("chat",), None), ("b", ("chat",), None), False),
        (("a", ("chat",), None), ("a", ("chat", "gpt"), None), True),
        (("a", ("chat",), "H100"), ("b", ("chat",), "H200"), True),
        (("a", ("chat", "gpt"), "H100"), ("b", ("gpt", "chat"), "H200"), True),
        (("a", ("chat",), "H100"), ("b", ("chat", "gpt"), "H200"), False),
        (("a", ("chat",), "H100"), ("a", ("chat",), None), False),
        (("a", ('b", "c',), "H100"), ("a", ("b", "c"), "H100"), False),
        (('names ["chat"]', ("x",), None), ("b", ("chat",), "H100"), False),
    ],
)
def test_limits_are_an_application_s_or_a_pool_s(
    one: tuple[str, tuple[str, ...], str | None],
    other: tuple[str, tuple[str, ...], str | None],
    same: bool,
) -> None:
    assert (limits_of(*one) == limits_of(*other)) is same
