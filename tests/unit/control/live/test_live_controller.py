"""The live controller on made-up looks at Serve: load, silence, an operator, failures, clocks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from rayserve_par.control.decide.settings import Bounds, ScaleSettings
from rayserve_par.control.live.controller import LiveController
from rayserve_par.control.live.history import Arrivals
from rayserve_par.control.live.mock_times import MockStepTimes
from rayserve_par.control.live.records import ControlStatus, Mode, Override
from rayserve_par.control.live.settings import EngineLimits, LiveSettings
from rayserve_par.control.live.surroundings import Around
from rayserve_par.control.live.view import Reported, ServeView
from rayserve_par.placement.bundles import placement_for
from rayserve_par.planning.layout import Layout
from rayserve_par.serving.instance_counters import InstanceReport
from rayserve_par.serving.mock_engine.times import EngineTimes

TIMES = EngineTimes(
    step_base_seconds=0.02,
    step_seconds_per_sequence=0.001,
    prefill_tokens_per_second=2000,
    max_num_seqs=16,
    max_num_batched_tokens=256,
    max_model_len=512,
    kv_blocks=512,
)
SETTINGS = LiveSettings(
    model="m",
    layout="TP1",
    gpu="logical-cpu",
    placement=placement_for(Layout(), across_nodes=False, gpus_per_node=2, domain_gpus=2),
    times=MockStepTimes(TIMES),
    limits=EngineLimits(TIMES.kv_tokens, TIMES.max_num_seqs, TIMES.max_num_batched_tokens),
    ttft_limit=1.0,
    tpot_limit=0.1,
    isl=64,
    osl=32,
    start_seconds=10.0,
    scale=ScaleSettings(Bounds(1, 8), settle_seconds=5.0),
)
CAPACITY = SETTINGS.instance_model().capacity(64, 32).requests_per_second


class World:
    """Serve as the controller sees it: obeys at once, reports each second."""

    def __init__(self, settings: LiveSettings = SETTINGS, target: int = 1) -> None:
        self.now = 10_000.0
        self.controller = LiveController(settings, clock=lambda: self.now, watch=lambda: 0.0)
        self.target, self.around = target, Around()
        self.statuses: list[ControlStatus] = []
        self.logs: list[dict[str, Any]] = []
        self.silent: set[str] = set()
        self.skew = 0
        self.recovering = False
        self.shed_rate = 0.0
        self._shed = 0.0
        self._arrived: dict[str, float] = {}
        self._begun: dict[str, int] = {}
        self._told: dict[str, list[Arrivals]] = {}
        self._latest: dict[str, Reported] = {}

    @property
    def running(self) -> tuple[str, ...]:
        return () if self.recovering else tuple(f"r{n}" for n in range(self.target))

    def view(self) -> ServeView:
        known = {name: one for name, one in self._latest.items() if name in self.running}
        return ServeView("app", self.target, self.running, 0.0, known)

    def post(self, status: ControlStatus, log: dict[str, Any] | None) -> None:
        self.statuses.append(status)
        if log is not None:
            self.logs.append(log)

    def run(self, seconds: int, rate: float) -> None:
        for _ in range(seconds):
            self.now += 1
            self._shed += self.shed_rate
            for name in [f"r{n}" for n in range(self.target)]:
                sent = self._arrived[name] = self._arrived.get(name, 0.0) + rate / self.target
                points = self._told.setdefault(name, [])
                points.append(Arrivals(int(self.now) + self.skew, sent, 64 * sent))
                if name not in self.silent:
                    latest = InstanceReport(
                        second=int(self.now) + self.skew,
                        begun=self._begun.setdefault(name, int(self.now)) + self.skew,
                        arrived=sent, arrived_prompt_tokens=64 * sent, ended=sent,
                        ended_output_tokens=32 * sent, running=2,
                        shed=self._shed if name == "r0" else 0.0,
                    )  # fmt: skip
                    self._latest[name] = Reported(self.now, latest, tuple(points[-5:]))
            self.target = self.controller.number(
                "app", self.target, self.view, lambda: self.around, self.post
            )

    @property
    def status(self) -> ControlStatus:
        return self.statuses[-1]


def test_a_new_policy_begins_with_the_lengths_that_the_one_before_had_learned() -> None:
    world = World()
    world.run(1, 0.0)
    assert world.status.isl == SETTINGS.isl
    world.around = Around(learned=(900.0, 16.0))
    world.run(2, 0.0)
    assert (world.status.isl, world.status.osl) == (900.0, 16.0)


def test_load_raises_the_number_and_its_end_lowers_it() -> None:
    world = World()
    world.run(60, 0.5 * CAPACITY)
    assert world.target == 1
    world.run(10, 3.0 * CAPACITY)
    assert world.target >= 3
    most = world.target
    world.run(120, 0.3 * CAPACITY)
    assert world.target == 1
    reasons = [one["decision"]["reason"] for one in world.logs[-1]["events"]]
    assert "forecast" in reasons or "backlog" in reasons
    assert reasons[-1] in {"shrink", "steady", "at_min"}
    assert max(one.wanted for one in world.statuses) == most


def test_starts_that_no_look_sees_under_way_are_measured() -> None:
    world = World()
    world.run(60, 0.5 * CAPACITY)
    assert world.status.start_seconds == SETTINGS.start_seconds
    world.run(20, 3.0 * CAPACITY)
    assert world.status.starting == 0
    assert world.status.start_seconds == SETTINGS.scale.look_seconds


@pytest.mark.parametrize("skew", [-7200, -5, 0, 5, 7200])
def test_wrong_clocks_of_instances_do_not_matter(skew: int) -> None:
    world = World()
    world.skew = skew
    world.run(40, 3.0 * CAPACITY)
    assert 3 <= world.target <= 6
    assert world.status.requests_per_second == pytest.approx(3 * CAPACITY, rel=0.35)


def test_an_instance_clock_that_jumps_is_no_burst() -> None:
    world = World()
    world.run(60, 0.5 * CAPACITY)
    world.skew = 3600
    world.run(60, 0.5 * CAPACITY)
    world.skew = -3600
    world.run(60, 0.5 * CAPACITY)
    assert max(one.wanted for one in world.statuses) == 1


def test_between_looks_nothing_is_looked_at() -> None:
    world = World()
    world.run(1, 1.0)
    before = len(world.statuses)
    for _ in range(5):
        world.now += 0.1
        world.controller.number(
            "app", 1, lambda: pytest.fail("looked"), lambda: world.around, world.post
        )
    assert len(world.statuses) == before


def test_never_down_while_an_instance_is_silent() -> None:
    world = World(target=4)
    world.run(60, 3.5 * CAPACITY)
    kept = world.target
    world.silent = {"r0"}
    world.run(200, 0.1 * CAPACITY)
    assert world.target == kept
    assert "do not report (r0)" in world.status.problems[0]
    world.silent = set()
    world.run(60, 0.1 * CAPACITY)
    assert world.target == 1
    assert world.status.problems == ()


@pytest.mark.parametrize(("look_seconds", "limit_seconds"), [(2.0, 6.0), (5.0, 15.0)])
def test_a_new_instance_is_named_once_its_report_is_late_and_held_for_at_once(
    look_seconds: float, limit_seconds: float
) -> None:
    world = World(replace(SETTINGS, scale=replace(SETTINGS.scale, look_seconds=look_seconds)))
    world.run(90, 0.1 * CAPACITY)
    world.silent = {"r1"}
    world.around = Around(override=Override(instances=2))
    world.run(60, 0.1 * CAPACITY)
    new = [one for one in world.statuses if one.ready == 2]
    assert {(one.decided, one.reason) for one in new} == {(2, "hold")}
    named = [one.seconds - new[0].seconds for one in new if one.problems]
    assert limit_seconds < named[0] <= limit_seconds + look_seconds
    assert "do not report (r1)" in new[-1].problems[0]
    world.silent = set()
    world.run(round(look_seconds) + 1, 0.1 * CAPACITY)
    assert world.status.problems == ()


def test_a_new_instance_that_reports_in_time_is_never_named() -> None:
    world = World()
    world.run(60, 0.1 * CAPACITY)
    world.around = Around(override=Override(instances=4))
    world.silent = {"r1", "r2", "r3"}
    world.run(5, 0.1 * CAPACITY)
    world.silent = set()
    world.run(30, 0.1 * CAPACITY)
    assert {one.problems for one in world.statuses} == {()}


def test_after_a_restart_the_number_stays_until_enough_is_known() -> None:
    world = World(target=4)
    world.run(25, 0.1 * CAPACITY)
    assert world.target == 4
    world.run(40, 0.1 * CAPACITY)
    assert world.target == 1


def test_what_instances_counted_before_a_restart_is_no_load() -> None:
    world = World(target=2)
    world.run(300, 1.5 * CAPACITY)
    kept = world.target
    world.controller = LiveController(SETTINGS, clock=lambda: world.now, watch=lambda: 0.0)
    before = len(world.statuses)
    world.recovering = True
    world.run(5, 1.5 * CAPACITY)
    world.recovering = False
    world.run(20, 1.5 * CAPACITY)
    assert {one.wanted for one in world.statuses[before:]} == {kept}


@pytest.mark.parametrize(
    ("override", "number", "mode"),
    [
        (Override(paused=True), 1, Mode.PAUSED),
        (Override(dry_run=True), 1, Mode.DRY_RUN),
        (Override(instances=2), 2, Mode.OVERRIDDEN),
        (Override(instances=2, paused=True), 2, Mode.OVERRIDDEN),
        (Override(instances=20), 8, Mode.OVERRIDDEN),
        (Override(instances=0), 1, Mode.OVERRIDDEN),
    ],
)
def test_an_operator_wins_and_decisions_are_still_written(
    override: Override, number: int, mode: Mode
) -> None:
    world = World()
    world.around = Around(override=override)
    world.run(20, 4.0 * CAPACITY)
    assert (world.target, world.status.mode, world.status.wanted) == (number, mode, number)
    assert world.status.decided >= 4
    outside = override.instances is not None and override.instances != number
    assert bool(world.status.problems) == outside
    world.around = Around(override=replace(override, until_seconds=world.now + 1))
    world.run(4, 4.0 * CAPACITY)
    assert world.status.mode is Mode.ACTING
    assert world.target >= 4


def test_a_dry_run_of_the_config_only_advises() -> None:
    world = World(replace(SETTINGS, dry_run=True))
    world.run(20, 4.0 * CAPACITY)
    assert (world.target, world.status.mode) == (1, Mode.DRY_RUN)
    assert world.status.decided >= 4


def test_no_more_than_the_free_gpus_hold() -> None:
    world = World()
    world.around = Around(room=1)
    world.run(3, 4.0 * CAPACITY)
    assert world.target <= 2
    world.around = Around(room=0)
    kept = world.target
    world.run(10, 4.0 * CAPACITY)
    assert (world.target, world.status.reason) == (kept, "no_room")


def test_requests_that_find_no_room_are_load() -> None:
    """One instance lets through what it can; what it refuses shows how many are needed."""
    world = World()
    world.run(30, 0.8 * CAPACITY)
    assert world.target == 1
    world.shed_rate = 2.0 * CAPACITY
    world.run(10, 0.8 * CAPACITY)
    assert world.target >= 2
    # with several instances the front asks two, so each refusal is half a request
    world.around = Around(override=Override(instances=4))
    world.run(120, 0.8 * CAPACITY)
    assert 2 <= world.status.decided <= 3


def test_who_ran_and_lives_drains_and_who_starts_does_not() -> None:
    world = World(target=2)
    world.around = Around(living=frozenset({"r0", "r1", "starting"}))
    world.run(4, CAPACITY)
    assert world.status.draining == 0
    world.around = replace(world.around, override=Override(instances=1))
    world.run(4, 0.1)
    assert (world.status.ready, world.status.draining) == (1, 1)
    world.around = replace(world.around, living=frozenset({"r0", "starting"}))
    world.run(4, 0.1)
    assert world.status.draining == 0


def test_a_failing_look_keeps_the_number_and_says_so() -> None:
    world = World(target=3)
    world.run(4, CAPACITY)

    def fail() -> Around:
        raise ValueError("boom")

    world.now += 2
    number = world.controller.number("app", 3, world.view, fail, world.post)
    assert number == 3
    assert "ValueError: boom" in world.status.problems[0]
    world.run(4, CAPACITY)
    assert "1 decisions have failed" in world.status.problems[-1]


def test_settings_survive_the_way_to_serves_controller() -> None:
    import json

    kwargs = json.loads(json.dumps(SETTINGS.as_kwargs()))
    found = LiveSettings.from_kwargs(kwargs)
    assert found == SETTINGS
    assert found.instance_model().capacity(64, 32) == SETTINGS.instance_model().capacity(64, 32)
