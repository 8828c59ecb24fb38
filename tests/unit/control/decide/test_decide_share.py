"""Models that share GPUs: who may start how many (tables), and what must always hold."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayserve_par.control.decide.give_up import Holding, give_up
from rayserve_par.control.decide.share import PATIENCE_SECONDS, Share, Wish, shares
from rayserve_par.errors import RefusedError
from rayserve_par.placement.fit import NodeState
from rayserve_par.placement.packing import Shape, fit_together

ONE, TWO, FOUR = Shape(1), Shape(2), Shape(4)


def nodes(*free: float, total: float = 4) -> list[NodeState]:
    return [NodeState(f"n{n}", f"n{n}", total, gpus, 99, f"n{n}") for n, gpus in enumerate(free)]


def wish(app: str, have: int, wanted: int, **more: object) -> Wish:
    return Wish(app, **{"shape": ONE, "have": have, "wanted": wanted, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("free", "wishes", "given_each"),
    [
        pytest.param((2,), [wish("a", 1, 3)], [2], id="alone"),
        pytest.param((1,), [wish("a", 1, 3)], [1], id="alone-too-few"),
        pytest.param((4,), [wish("a", 1, 3), wish("b", 1, 3)], [2, 2], id="enough"),
        pytest.param((2,), [wish("a", 1, 3), wish("b", 1, 3)], [1, 1], id="equal"),
        pytest.param((3,), [wish("a", 1, 3), wish("b", 1, 3)], [2, 1], id="odd-one-by-name"),
        pytest.param(
            (3,), [wish("a", 1, 3), wish("b", 1, 3, waited_seconds=5)], [1, 2], id="odd-one-waited"
        ),
        pytest.param((2,), [wish("a", 1, 3), wish("b", 1, 3, priority=1)], [0, 2], id="priority"),
        pytest.param((1,), [wish("a", 1, 4), wish("b", 0, 1)], [0, 1], id="nothing-serves"),
        pytest.param((4,), [wish("a", 2, 4), wish("b", 2, 8)], [1, 3], id="by-share-of-need"),
        pytest.param((2,), [wish("a", 1, 3), wish("b", 2, 2, unplaced=1)], [1, 0], id="pending"),
        pytest.param((1,), [wish("a", 2, 4, unplaced=1)], [0], id="own-pending"),
        pytest.param(
            (1,),
            [wish("a", 1, 3, priority=9), wish("b", 2, 2, unplaced=1)],
            [0, 0],
            id="pending-before-priority",
        ),
        pytest.param(
            (3,), [wish("a", 1, 9), wish("b", 0, 1, shape=FOUR)], [0, 0], id="large-holds"
        ),
        pytest.param(
            (3,),
            [wish("a", 1, 9), wish("b", 0, 1, shape=FOUR, waited_seconds=PATIENCE_SECONDS)],
            [3, 0],
            id="large-lets-pass",
        ),
        pytest.param(
            (3,),
            [wish("a", 1, 9), wish("b", 0, 1, shape=FOUR, waited_seconds=2 * PATIENCE_SECONDS)],
            [0, 0],
            id="large-holds-again",
        ),
        pytest.param(
            (3,), [wish("a", 1, 9), wish("b", 0, 1, shape=Shape(8))], [3, 0], id="never-fits"
        ),
        pytest.param(
            (2, 2), [wish("a", 1, 9), wish("b", 0, 1, shape=FOUR)], [0, 0], id="not-together"
        ),
        pytest.param(
            (2, 4), [wish("a", 1, 3), wish("b", 0, 1, shape=FOUR)], [2, 1], id="both-sizes"
        ),
        pytest.param((4,), [wish("a", 3, 1), wish("b", 1, 2)], [0, 1], id="fewer-is-no-wish"),
        pytest.param((), [wish("a", 1, 2)], [0], id="no-nodes"),
    ],
)
def test_shares(free: tuple[float, ...], wishes: list[Wish], given_each: list[int]) -> None:
    found = shares(nodes(*free), wishes)
    assert [found[one.app].given for one in wishes] == given_each
    assert shares(nodes(*free), list(reversed(wishes))) == found


def test_notes_say_who_came_first_and_what_is_missing() -> None:
    chat = wish("chat", 1, 3, priority=1)
    found = shares(nodes(1, 1), [chat, wish("batch", 1, 3)])
    assert found["chat"] == Share(2, 2)
    assert found["batch"].note == (
        "wanted 3, has 1, 0 more given: 2 GPUs free, chat (priority 1) came first with 2 x 1; "
        "missing 2 x 1 = 2 GPUs"
    )
    large = shares(nodes(2, 2), [wish("big", 0, 1, shape=FOUR), wish("small", 1, 2)])
    assert "it waits for 4 GPUs on one node; missing 1 x 4 = 4 GPUs" in large["big"].note
    assert (
        "big (priority 0) waits for 4 GPUs on one node and holds what is left"
        in large["small"].note
    )
    own = shares(nodes(1), [wish("a", 2, 3, unplaced=1)])
    assert "1 GPU free, its own 1 without a place came first" in own["a"].note
    assert "no node holds 8 GPUs" in shares(nodes(4), [wish("a", 0, 1, shape=Shape(8))])["a"].note


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(RefusedError, match="two wishes"):
        shares(nodes(1), [wish("a", 1, 2), wish("a", 1, 2)])
    with pytest.raises(RefusedError, match="3 of 2"):
        wish("a", 2, 2, unplaced=3)


@st.composite
def some_wishes(draw: st.DrawFn, most_waited: float = PATIENCE_SECONDS / 2) -> list[Wish]:
    found = []
    for name in "abcd"[: draw(st.integers(1, 4))]:
        have = draw(st.integers(0, 4))
        found.append(
            Wish(
                name,
                shape=draw(st.sampled_from([ONE, TWO, FOUR, Shape(1, 2, "PACK")])),
                have=have,
                wanted=draw(st.integers(0, 8)),
                unplaced=draw(st.integers(0, have)),
                priority=draw(st.integers(0, 2)),
                waited_seconds=draw(st.floats(0, most_waited)),
            )
        )
    return found


FREE = st.lists(st.integers(0, 4), min_size=1, max_size=4)


@given(free=FREE, wishes=some_wishes(most_waited=10 * PATIENCE_SECONDS))
def test_never_more_than_asked_nor_than_fits(free: list[int], wishes: list[Wish]) -> None:
    found = shares(nodes(*free), wishes)
    assert all(0 <= found[one.app].given <= one.asked for one in wishes)
    started = [one.shape for one in wishes for _ in range(found[one.app].given)]
    assert fit_together(nodes(*free), started)
    assert all(bool(one.note) == bool(one.missing) for one in found.values())


@given(free=FREE, wishes=some_wishes(), at=st.integers(0, 3), more=st.integers(1, 4))
def test_more_free_gpus_never_give_any_model_fewer(
    free: list[int], wishes: list[Wish], at: int, more: int
) -> None:
    raised = [min(4, one + more * (n == at)) for n, one in enumerate(free)]
    before, after = shares(nodes(*free), wishes), shares(nodes(*raised), wishes)
    assert all(after[app].given >= one.given for app, one in before.items())


@given(free=FREE, have=st.integers(0, 4), more=st.integers(1, 8), count=st.integers(2, 4))
def test_equal_wishes_get_equally_many_to_within_one(
    free: list[int], have: int, more: int, count: int
) -> None:
    found = shares(nodes(*free), [wish(name, have, have + more) for name in "abcd"[:count]])
    numbers = [one.given for one in found.values()]
    assert max(numbers) - min(numbers) <= 1
    assert sum(numbers) == min(sum(free), more * count)


@given(free=FREE, wishes=some_wishes())
def test_a_higher_priority_is_never_held_up_by_a_lower_one(
    free: list[int], wishes: list[Wish]
) -> None:
    placed = [replace(one, unplaced=0) for one in wishes]
    top = max(one.priority for one in placed)
    alone = shares(nodes(*free), [one for one in placed if one.priority == top])
    found = shares(nodes(*free), placed)
    assert all(found[app].given == one.given for app, one in alone.items())


@given(wishes=some_wishes(), seed=st.integers(0, 3))
def test_gpus_that_come_free_one_by_one_reach_everybody(wishes: list[Wish], seed: int) -> None:
    """What is given gets its place before the next look; the line moves on until all are served."""
    sizes = {one.app: one.shape for one in wishes}
    free = [0, 0, 0, 0]
    for turn in range(200):
        if not any(one.asked or one.unplaced for one in wishes):
            break
        free[(turn + seed) % 4] = 4
        found = shares(nodes(*free), wishes)
        after = []
        for one in wishes:
            placed = one.have - one.unplaced
            have = one.have + found[one.app].given
            while placed < have and fit_together(nodes(*free), [sizes[one.app]]):
                for _ in range(round(one.shape.gpus / one.shape.largest_piece)):
                    able = [n for n in range(4) if free[n] >= one.shape.largest_piece]
                    free[min(able, key=lambda n: free[n])] -= round(one.shape.largest_piece)
                placed += 1
            after.append(replace(one, have=have, unplaced=have - placed))
        wishes = after
    assert not any(one.asked or one.unplaced for one in wishes)


def holding(one: Wish, spare: int, *places: dict[str, float]) -> Holding:
    return Holding(one, spare, places)


A = wish("a", 1, 3, waited_seconds=20.0)
B = wish("b", 3, 3)


@pytest.mark.parametrize(
    ("free", "taker", "holder", "leaving", "gives"),
    [
        pytest.param((0,), A, holding(B, 1, {"n0": 1}), [], True, id="gives"),
        pytest.param((0,), A, holding(B, 0, {"n0": 1}), [], False, id="nothing-to-spare"),
        pytest.param((2,), A, holding(B, 1, {"n0": 1}), [], False, id="enough-is-free"),
        pytest.param(
            (0,), replace(A, waited_seconds=5.0), holding(B, 1, {"n0": 1}), [], False, id="too-soon"
        ),
        pytest.param(
            (0,), A, holding(B, 1, {"n0": 1}), [{"n0": 1.0}], False, id="one-ends-already"
        ),
        pytest.param(
            (0,), A, holding(replace(B, priority=1), 1, {"n0": 1}), [], False, id="for-no-lower-one"
        ),
        pytest.param(
            (1, 1),
            replace(A, shape=TWO),
            holding(B, 2, {"n0": 1}, {"n1": 1}),
            [],
            True,
            id="fits-then",
        ),
        pytest.param(
            (1, 0),
            replace(A, shape=TWO),
            holding(B, 2, {"n0": 1}, {"n1": 1}),
            [],
            False,
            id="not-wherever-it-stops",
        ),
        pytest.param(
            (0, 0), replace(A, shape=TWO), holding(B, 1, {"n0": 1}), [], False, id="not-enough"
        ),
    ],
)
def test_giving_up(
    free: tuple[float, ...],
    taker: Wish,
    holder: Holding,
    leaving: list[dict[str, float]],
    gives: bool,
) -> None:
    found = give_up(nodes(*free), [taker, holder.wish], ["a"], [holder], leaving)
    assert (found is not None) is gives
    if found is not None:
        assert (found.app, found.taker) == ("b", "a")
        assert found.note == (
            "2 hold with margin; one of 3 given up for a (priority 0), which misses its target "
            "with 1 of 3"
        )


def test_nobody_gives_for_a_model_that_holds_its_target() -> None:
    assert give_up(nodes(0), [A, B], [], [holding(B, 1, {"n0": 1})]) is None


def test_the_lowest_priority_gives_and_then_who_has_most_to_spare() -> None:
    taker = replace(A, priority=2)
    low, many, few = (
        wish("low", 2, 2),
        wish("many", 4, 4, priority=1),
        wish("few", 4, 4, priority=1),
    )
    places = [{"n0": 1.0}]
    all_of_them = [holding(few, 1, *places), holding(many, 2, *places), holding(low, 1, *places)]
    wishes = [taker, low, many, few]
    found = give_up(nodes(0), wishes, ["a"], all_of_them)
    assert found is not None
    assert found.app == "low"
    found = give_up(nodes(0), wishes, ["a"], all_of_them[:2])
    assert found is not None
    assert found.app == "many"
