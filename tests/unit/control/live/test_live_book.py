"""The book of all applications: claims, turns, restarts; and two controllers that share GPUs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from rayserve_par.control.decide.decision import Decision, Reason
from rayserve_par.control.decide.scale import ScaleMemory
from rayserve_par.control.decide.settled import Floor
from rayserve_par.control.live.ask import Answer, Ask, answered, ask_of
from rayserve_par.control.live.book import Book
from rayserve_par.control.live.controller import LiveController
from rayserve_par.control.live.gpu_view import GpuView, not_more_free
from rayserve_par.control.live.records import Override
from rayserve_par.control.live.surroundings import Around
from rayserve_par.control.live.view import ServeView
from rayserve_par.placement.fit import NodeState
from rayserve_par.placement.packing import Shape
from rayserve_par.serving.held_groups import HeldGroup, ReplicaGroup, gpu_groups
from tests.unit.control.live.test_live_controller import CAPACITY, SETTINGS, World

ONE, TWO = Shape(1), Shape(2)
GPU = SETTINGS.gpu


def node(name: str, free: float, total: float = 2) -> NodeState:
    return NodeState(name, name, total, free, 99, name)


def group(app: str, replica: str, on: str = "", shape: Shape = ONE) -> ReplicaGroup:
    held = HeldGroup({on: shape.gpus}, {on: 1}) if on else HeldGroup({}, {})
    return ReplicaGroup(app, replica, bool(on), shape, held)


def seen(free: float, *groups: ReplicaGroup, total: float = 8) -> GpuView:
    return GpuView((node("n1", free, total),), {"n1": GPU}, groups)


class Desk:
    """A book with a clock of its own, and what its applications have."""

    def __init__(self, view: GpuView | None) -> None:
        self.now = 100.0
        self.book = Book(lambda: self.now)
        if view is not None:
            self.book.see(view)

    def ask(self, app: str, target: int, wanted: int, **more: Any) -> Answer | None:
        """One look, carried out."""
        plain = Ask(
            app=app, gpu=GPU, shape=ONE, priority=0, target=target, most=4, wanted=wanted,
            misses=wanted > target, spare=0, running=frozenset(), ran=frozenset(), claims=True,
            look_seconds=2.0,
        )  # fmt: skip
        self.now += 0.5
        answer = self.book.ask(replace(plain, **more))
        given = 0 if answer is None else answer.given
        down = answer is not None and answer.gives_up
        acts = replace(plain, **more).claims
        self.book.told(app, target - 1 if down else target + given if acts else target)
        return answer

    def given(self, app: str, target: int, wanted: int, **more: Any) -> int | None:
        answer = self.ask(app, target, wanted, **more)
        return None if answer is None else answer.given


def test_whoever_looks_first_does_not_take_all() -> None:
    desk = Desk(seen(2, group("a", "r0", "n1"), group("b", "r0", "n1")))
    assert desk.given("a", 1, 1) == 0
    assert desk.given("b", 1, 1) == 0
    first = desk.ask("a", 1, 3)
    assert first == Answer(0, "waits one look for what other models want", waits=True)
    assert desk.given("b", 1, 3) == 0
    assert desk.given("a", 1, 3) == 1
    assert desk.given("b", 1, 3) == 1
    assert desk.given("a", 2, 3) == 0


def test_who_is_alone_or_can_never_come_short_does_not_wait() -> None:
    desk = Desk(seen(2, group("a", "r0", "n1")))
    assert desk.given("a", 1, 3) == 2
    desk = Desk(seen(6, group("a", "r0", "n1"), group("b", "r0", "n1")))
    assert desk.given("b", 1, 1) == 0
    assert desk.given("a", 1, 3) == 2


def test_priority_comes_first() -> None:
    desk = Desk(seen(2, group("a", "r0", "n1"), group("b", "r0", "n1")))
    for _ in range(2):
        a = desk.ask("a", 1, 3)
        b = desk.given("b", 1, 3, priority=1)
    assert b == 2
    assert a is not None
    assert a.given == 0
    assert a.note == (
        "wanted 3, has 1, 0 more given: 2 GPUs free, b (priority 1) came first with 2 x 1; "
        "missing 2 x 1 = 2 GPUs"
    )


def test_a_claim_stays_until_its_instance_has_its_gpus_or_is_given_up() -> None:
    a, b = group("a", "r0", "n1"), group("b", "r0", "n1")
    desk = Desk(seen(1, a, b))
    desk.ask("a", 1, 2)
    assert desk.given("a", 1, 2) == 1
    for _ in range(3):
        desk.ask("a", 2, 2)
        assert desk.given("b", 1, 2) == 0
    desk.book.see(seen(1, a, group("a", "r1"), b))
    assert desk.given("b", 1, 2) == 0, "Ray has not placed it yet"
    desk.book.see(seen(0, a, group("a", "r1", "n1"), b))
    assert desk.given("b", 1, 2) == 0, "nothing is free"
    desk.book.see(seen(1, a, group("a", "r1", "n1"), b))
    desk.ask("a", 2, 2)
    assert desk.given("b", 1, 2) == 1, "another came free"
    desk = Desk(seen(1, a, b))
    desk.ask("a", 1, 2)
    assert desk.given("a", 1, 2) == 1
    desk.ask("b", 1, 2)
    desk.ask("a", 1, 1)
    assert desk.given("b", 1, 2) == 1, "given up before it started"


def test_an_instance_that_ends_is_no_place_for_one_that_starts() -> None:
    ends = group("a", "old", "n1")
    desk = Desk(seen(1, ends, group("b", "r0", "n1")))
    some = {"ran": frozenset({"old"}), "running": frozenset[str]()}
    assert desk.given("a", 1, 1, **some) == 0
    desk.ask("b", 1, 2)
    assert desk.given("b", 1, 2) == 0, "a's one instance has no place yet, and comes first"


def test_an_instance_that_a_roll_out_starts_beside_the_old_ones_is_a_claim() -> None:
    desk = Desk(seen(1, group("a", "old", "n1"), group("a", "new"), group("b", "r0", "n1")))
    some = {"ran": frozenset({"old"}), "running": frozenset({"old"})}
    assert desk.given("a", 1, 1, **some) == 0
    desk.ask("b", 1, 2)
    assert desk.given("b", 1, 2) == 0


def test_after_a_restart_pending_groups_are_claims() -> None:
    view = seen(2, group("a", "r0", "n1"), group("a", "r1"), group("b", "r0", "n1"))
    desk = Desk(view)
    desk.ask("b", 1, 3)
    assert desk.given("b", 1, 3) == 1, "a has not looked yet"
    desk = Desk(view)
    desk.ask("a", 2, 2)
    desk.ask("b", 1, 3)
    assert desk.given("b", 1, 3) == 1, "a has"


def test_pending_groups_of_an_application_that_no_longer_looks_still_count() -> None:
    desk = Desk(seen(1, group("a", "r0", "n1"), group("b", "r0", "n1")))
    desk.ask("a", 2, 2)
    assert desk.given("b", 1, 2) == 0
    desk.now += 20
    desk.book.see(seen(1, group("b", "r0", "n1")))
    desk.ask("b", 1, 2)
    assert desk.given("b", 1, 2) == 1, "a is gone"
    desk.now += 20
    desk.book.see(seen(1, group("a", "r7"), group("b", "r0", "n1")))
    assert desk.given("b", 1, 2) == 0


@pytest.mark.parametrize("shape", [Shape(16), Shape(1)])
def test_a_group_that_no_node_can_hold_claims_nothing(shape: Shape) -> None:
    desk = Desk(seen(1, group("x", "r0", shape=shape), group("b", "r0", "n1")))
    desk.ask("b", 1, 2)
    assert desk.given("b", 1, 2) == (1 if shape.gpus == 16 else 0)


def test_a_dry_run_is_answered_and_claims_nothing() -> None:
    desk = Desk(seen(1, group("a", "r0", "n1"), group("b", "r0", "n1")))
    for _ in range(2):
        dry = desk.given("a", 1, 2, claims=False, priority=5)
        given = desk.given("b", 1, 2)
    assert (dry, given) == (1, 1)


def test_other_gpus_are_another_matter() -> None:
    two = GpuView((node("n1", 1), node("n2", 1)), {"n1": GPU, "n2": "H100"})
    desk = Desk(two)
    desk.ask("b", 1, 2, gpu="H100", running=frozenset())
    assert desk.given("b", 1, 2, gpu="H100") == 0, "its first one is pending"
    assert desk.given("a", 0, 1) == 1


def test_what_is_not_known_limits_nothing_but_the_first_seconds() -> None:
    desk = Desk(None)
    assert desk.ask("a", 1, 3) == Answer(0, "the cluster's GPUs are not read yet", waits=True)
    desk.now += 11
    assert desk.ask("a", 1, 3) is None
    desk.book.see(seen(0))
    assert desk.given("a", 1, 3) == 0
    desk.now += 31
    assert desk.ask("a", 1, 3) is None


def test_who_has_one_to_spare_gives_it_up_once() -> None:
    taken = [group("a", "r0", "n1"), *(group("b", f"r{n}", "n1") for n in range(3))]
    desk = Desk(seen(0, *taken, total=4))
    runs = {"running": frozenset({"r0", "r1", "r2"}), "ran": frozenset({"r0", "r1", "r2"})}
    for _ in range(15):
        desk.ask("a", 1, 2)
        early = desk.ask("b", 3, 3, **runs)
    assert early == Answer(0)
    while desk.now < 120:
        desk.ask("a", 1, 2)
        answer = desk.ask("b", 3, 3, spare=1, **runs)
        if answer is not None and answer.gives_up:
            break
    else:
        pytest.fail("never given up")
    assert answer.note == (
        "2 hold with margin; one of 3 given up for a (priority 0), which misses its target with "
        "1 of 2"
    )
    for turn in range(40):
        if turn % 10 == 0:
            desk.book.see(seen(0, *taken, total=4))
        assert desk.given("a", 1, 2) == 0
        assert desk.ask("b", 2, 2, spare=1, **runs) == Answer(0), "one at a time"
    desk.book.see(seen(1, *taken[:3], total=4))
    assert desk.given("a", 1, 2) == 1
    for _ in range(20):
        desk.ask("a", 2, 2)
        assert desk.ask("b", 2, 2, spare=1, **runs) == Answer(0), "nobody waits"


def test_what_a_policy_asks_and_how_the_answer_is_told() -> None:
    view = ServeView("a", 1, ("r0",), 0.0, {})
    wanted = Decision(3, Reason.FORECAST, 0.0, note="look-back")
    ask = ask_of(SETTINGS, view, wanted, frozenset({"r0"}), acting=True)
    assert (ask.target, ask.wanted, ask.most, ask.misses, ask.shape) == (1, 3, 8, True, ONE)
    no_room = Decision(2, Reason.NO_ROOM, 0.0, note="look-back")
    assert answered(no_room, Answer(1, "b came first"), 1).note == "b came first; look-back"
    spare = Decision(3, Reason.HOLD, 0.0, note="look-back", spare=1)
    gone = answered(spare, Answer(0, "for b", gives_up=True), 3)
    assert (gone.wanted, gone.reason, gone.note) == (2, Reason.GAVE_UP, "for b; look-back")
    assert answered(spare, Answer(0), 3) == spare
    assert answered(no_room, Answer(0, "heard", waits=True), 1).reason is Reason.WAITS


class Shared:
    """Two applications on four GPUs; a view of the cluster every five seconds."""

    def __init__(self, priority: int = 0, settle_seconds: float = 5.0) -> None:
        scale = replace(SETTINGS.scale, settle_seconds=settle_seconds)
        self.a = World(replace(SETTINGS, scale=scale))
        self.b = World(replace(SETTINGS, scale=scale, priority=priority))
        self.book = Book(lambda: self.a.now)
        for world, name in ((self.a, "a"), (self.b, "b")):
            settings = world.controller.settings
            world.controller = LiveController(
                settings, clock=lambda world=world: world.now, watch=lambda: 0.0, book=self.book
            )
            original = world.view
            world.view = (  # type: ignore[method-assign]
                lambda original=original, name=name: replace(original(), app=name)
            )
        self.most = 0

    def run(self, seconds: int, rate_a: float, rate_b: float) -> None:
        for second in range(seconds):
            if second % 5 == 0:
                self.book.see(self._seen())
            self.a.run(1, rate_a * CAPACITY)
            self.b.run(1, rate_b * CAPACITY)
            self.most = max(self.most, self.a.target + self.b.target)

    def _seen(self) -> GpuView:
        groups, free = [], {"n1": 2.0, "n2": 2.0}
        for name, world in (("a", self.a), ("b", self.b)):
            for n in range(world.target):
                at = next((one for one, left in free.items() if left), "")
                groups.append(group(name, f"r{n}", at))
                if at:
                    free[at] -= 1
        return GpuView(
            tuple(node(name, left) for name, left in free.items()),
            {"n1": GPU, "n2": GPU},
            tuple(groups),
        )


def test_two_controllers_never_ask_for_more_than_there_is() -> None:
    shared = Shared()
    shared.run(60, 0.5, 0.5)
    shared.run(30, 4.0, 4.0)
    assert (shared.a.target, shared.b.target) == (2, 2)
    assert shared.most == 4
    assert shared.a.status.reason == "no_room"
    events = [one["decision"] for one in shared.b.logs[-1]["events"]]
    notes = [one["note"] for one in events if one["reason"] == "no_room"]
    assert any("GPUs free" in one and "missing" in one for one in notes), notes


def test_the_model_of_higher_priority_gets_them() -> None:
    shared = Shared(priority=1)
    shared.run(60, 0.5, 0.5)
    shared.run(30, 4.0, 4.0)
    assert (shared.a.target, shared.b.target) == (1, 3)
    assert "b (priority 1) came first with 2 x 1" in str(shared.a.logs[-1])


def test_a_controller_that_has_one_to_spare_gives_it_up_and_the_other_takes_it() -> None:
    shared = Shared(settle_seconds=600.0)
    shared.b.target = 3
    shared.run(20, 0.5, 1.5)
    shared.b.controller._memory = ScaleMemory(floor=Floor(3, 1.5, shared.b.now))
    shared.run(50, 0.5, 1.5)
    assert (shared.a.target, shared.b.target) == (1, 3)
    assert shared.b.status.reason == "hold"
    shared.run(60, 1.7, 1.5)
    assert (shared.a.target, shared.b.target) == (2, 2)
    gone = [
        one["decision"]
        for one in shared.b.logs[-1]["events"]
        if one["decision"]["reason"] == "gave_up"
    ]
    assert len(gone) == 1
    assert gone[0]["note"].startswith("2 hold with margin; one of 3 given up for a (priority 0)")
    shared.run(300, 1.7, 1.5)
    assert (shared.a.target, shared.b.target) == (2, 2)


def test_nothing_flaps_under_constant_load() -> None:
    shared = Shared()
    shared.run(60, 0.5, 0.5)
    shared.run(60, 2.5, 2.5)
    numbers = set()
    for _ in range(60):
        shared.run(5, 2.5, 2.5)
        numbers.add((shared.a.target, shared.b.target))
    assert len(numbers) == 1


def test_a_paused_application_is_left_alone_and_claims_nothing() -> None:
    shared = Shared(priority=1)
    shared.run(60, 0.5, 0.5)
    shared.b.around = Around(override=Override(paused=True))
    shared.run(30, 4.0, 4.0)
    assert (shared.a.target, shared.b.target) == (3, 1)


def test_groups_are_read_by_serves_names(monkeypatch: pytest.MonkeyPatch) -> None:
    def row(name: str, state: str, bundles: dict[int, dict[str, float]], on: str) -> dict[str, Any]:
        nodes = dict.fromkeys(bundles, on)
        return {
            "name": name, "state": state, "strategy": "STRICT_PACK", "bundles": bundles,
            "bundles_to_node_id": nodes,
        }  # fmt: skip

    table = {
        "1": row("SERVE_REPLICA::a#instance#x", "CREATED", {0: {"CPU": 1, "GPU": 2}}, "n1"),
        "2": row("SERVE_REPLICA::a#instance#y", "PENDING", {0: {"GPU": 2}}, ""),
        "3": row("SERVE_REPLICA::a#instance#z", "REMOVED", {0: {"GPU": 2}}, "n1"),
        "4": row("SERVE_REPLICA::c#front#w", "CREATED", {0: {"CPU": 1}}, "n1"),
        "5": row("other", "CREATED", {0: {"GPU": 2}}, "n1"),
    }
    monkeypatch.setattr("ray.util.placement_group_table", lambda: table)
    first, second = gpu_groups()
    assert (first.app, first.replica, first.placed, first.shape) == ("a", "x", True, TWO)
    assert (second.replica, second.placed, dict(second.held.gpus)) == ("y", False, {})
    [stale] = not_more_free([node("n1", 2)], [first])
    assert stale.gpus_free == 0, "the node has not told of it yet"
