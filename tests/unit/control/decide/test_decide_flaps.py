"""No flapping over time: looks that follow each other, through the policy alone."""

from math import ceil, cos, pi
from random import Random

import pytest

from rayserve_par.control.decide.scale import ScalePolicy
from rayserve_par.control.decide.settings import Bounds, ScaleSettings
from tests.unit.control.decide.driven import by_chance, changes, flaps, regrets
from tests.unit.control.decide.states import state
from tests.unit.control.instances_of_llama import instance_model

MODEL = instance_model()
SETTLE = 600


def policy(start_seconds: float, **more: float) -> ScalePolicy:
    return ScalePolicy(ScaleSettings(Bounds(1, 60), **more), MODEL, start_seconds)


@pytest.mark.parametrize("start_seconds", [5.0, 8.0, 20.0, 60.0])
@pytest.mark.parametrize(("load", "seed"), [(0.9, 1), (2.8, 0), (9.0, 2)])
def test_constant_load_is_not_scaled_up_and_down(
    load: float, seed: int, start_seconds: float
) -> None:
    requests = by_chance([load] * 1200, seed)
    found = changes(policy(start_seconds), requests, start_seconds, ceil(load))
    assert flaps(found, SETTLE - 1) == []


@pytest.mark.parametrize("seed", range(8))
def test_nothing_given_up_is_wanted_again_without_an_arrival(seed: int) -> None:
    """Bursts and pauses, short starts, hardly any settling: the look-back's length jumps."""
    draw, loads = Random(seed), list[float]()
    while len(loads) < 420:
        loads += [draw.choice((0.0, 0.3, 1.2, 2.5, 3.5))] * draw.randrange(5, 60, 5)
    requests = by_chance([*loads, *([0.0] * 100)], seed)
    found = changes(policy(8.0, settle_seconds=30.0), requests, 8.0, 1)
    assert any(one.after < one.before for one in found)
    again = [
        (down, up)
        for down, up in regrets(found, 60)
        if not any(requests[down.seconds : up.seconds])
    ]
    assert again == []


def test_the_way_down_from_a_peak_is_no_trend_where_load_is_bursty() -> None:
    """Waves of 360 s between 5 and 11, looked at in a trough: the next peak comes."""
    load = [8 + 3 * cos(2 * pi * n / 360) + (0.5 if n // 10 % 2 else -0.5) for n in range(900)]
    decision, _ = policy(60.0).decide(state(load, 12), None)
    assert "look-back 360 s" in decision.note
    assert decision.wanted == 12, decision.note


@pytest.mark.parametrize(
    ("quiet", "burst", "look_back", "kept"),
    [
        # small bursts all the time, a large one 450 s ago: the last of its kind is remembered
        (0.0, 3.0, 600, 12),
        # even load around it: what came seven starts ago is forgotten
        (3.0, 3.0, 60, 4),
    ],
)
def test_few_bursts_are_remembered_for_longer(
    quiet: float, burst: float, look_back: int, kept: int
) -> None:
    load = [burst if n // 10 % 3 == 0 else quiet for n in range(600)]
    load[150:170] = [12.0] * 20
    decision, _ = policy(60.0).decide(state(load, 12), None)
    assert f"look-back {look_back} s" in decision.note
    assert decision.wanted == kept, decision.note
