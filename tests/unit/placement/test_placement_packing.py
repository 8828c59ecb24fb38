"""Instances of several layouts on free GPUs: tables, and what must hold beside `fit.py`."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayserve_par.placement.bundles import placement_for
from rayserve_par.placement.fit import NodeState, free_room
from rayserve_par.placement.packing import Shape, fit_together, fits_empty
from rayserve_par.planning.layout import Layout

ONE, TWO, FOUR = Shape(1), Shape(2), Shape(4)
PAIR = Shape(1, 2, "STRICT_SPREAD")
STAGES = Shape(2, 2, "PACK")
WIDE = Shape(4, 2, "STRICT_SPREAD", bundles_per_tp_group=2)


def nodes(*free: float, total: float = 8, cpus: float = 99, domains: str = "") -> list[NodeState]:
    return [
        NodeState(f"n{n}", f"n{n}", total, gpus, cpus, domains[n] if domains else f"n{n}")
        for n, gpus in enumerate(free)
    ]


@pytest.mark.parametrize(
    ("free", "shapes", "fits"),
    [
        ((1,), [ONE], True),
        ((1,), [ONE, ONE], False),
        ((1, 1), [TWO], False),
        ((4, 1), [ONE, FOUR], True),
        ((1, 2), [TWO, ONE], True),
        ((2, 2), [ONE, ONE, TWO], True),
        ((2, 1), [PAIR, ONE], True),
        ((3,), [PAIR], False),
        ((2, 2), [STAGES], True),
        ((4,), [STAGES], True),
        ((3, 1), [STAGES], False),
        ((), [], True),
        ((), [ONE], False),
    ],
)
def test_together(free: tuple[float, ...], shapes: list[Shape], fits: bool) -> None:
    assert fit_together(nodes(*free), shapes) is fits
    assert fit_together(nodes(*free), list(reversed(shapes))) is fits


def test_a_wide_tp_group_stays_in_one_nvlink_domain() -> None:
    assert not fit_together(nodes(4, 4, domains="ab"), [WIDE])
    assert fit_together(nodes(4, 4, domains="aa"), [WIDE])
    assert fit_together(nodes(4, 4, 4, 4, 4, domains="aabbb"), [WIDE, WIDE, FOUR])
    assert not fit_together(nodes(4, 4, 4, 4, domains="aabb"), [WIDE, WIDE, FOUR])


def test_bundle_0_needs_a_cpu() -> None:
    assert not fit_together(nodes(2, cpus=0), [ONE])
    assert not fit_together(nodes(2, cpus=1), [ONE, ONE])
    assert fit_together(nodes(4, cpus=1), [STAGES])
    assert not fit_together(nodes(1, 1, cpus=0), [PAIR])


def test_what_fits_empty_nodes() -> None:
    assert fits_empty(nodes(0, 0), Shape(8))
    assert not fits_empty(nodes(0, 0), Shape(16))
    assert fits_empty(nodes(0, 0, cpus=0), Shape(8, 2, "STRICT_SPREAD"))


SIZES = st.sampled_from([ONE, TWO, FOUR, Shape(1, 2, "PACK"), STAGES])
FREE = st.lists(st.integers(0, 8), min_size=1, max_size=4)


@given(free=FREE, shapes=st.lists(SIZES, max_size=8), more=st.integers(0, 3), at=st.integers(0, 3))
def test_more_free_gpus_and_fewer_instances_still_fit(
    free: list[int], shapes: list[Shape], more: int, at: int
) -> None:
    if not fit_together(nodes(*free), shapes):
        return
    assert fit_together(nodes(*free), shapes[:-1])
    raised = [min(8, one + more * (n == at)) for n, one in enumerate(free)]
    assert fit_together(nodes(*raised), shapes)


LAYOUTS = [(Layout(), False), (Layout(tp=4), False), (Layout(tp=2, pp=2), False)]


@given(free=FREE, index=st.integers(0, 3))
def test_as_many_of_one_layout_as_the_formula_says(free: list[int], index: int) -> None:
    layout, across = [*LAYOUTS, (Layout(tp=2, pp=2), True)][index]
    placement = placement_for(layout, across_nodes=across, gpus_per_node=8, domain_gpus=8)
    room = free_room(placement, nodes(*free))
    shape = Shape.of(placement)
    assert shape.gpus == layout.gpus
    assert fit_together(nodes(*free), [shape] * room)
    assert not fit_together(nodes(*free), [shape] * (room + 1))


def test_words() -> None:
    assert [ONE.words, FOUR.words, STAGES.words, replace(PAIR, bundles=3).words] == [
        "1 GPU on one node", "4 GPUs on one node", "2 x 2 GPUs", "3 x 1 GPU",
    ]  # fmt: skip
