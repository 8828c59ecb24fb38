"""The loop over a store and a Serve that are dictionaries: modes, idempotence, what is written."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

pytest.importorskip("ray", reason="the controller's modules need Ray")

from rayserve_par.control.decide.prospect import CountBy, Counting
from rayserve_par.control.decide.replan_settings import ReplanSettings
from rayserve_par.control.live import store
from rayserve_par.control.live.records import ControlStatus, Mode, Override
from rayserve_par.control.observe import InstanceView
from rayserve_par.control.replanning import replanner as module
from rayserve_par.control.replanning.record import ReplanRecord
from rayserve_par.control.replanning.replanner import Outcome, Replanner
from rayserve_par.control.serve_client import AppState
from rayserve_par.hardware.cluster import Cluster, parse_cluster
from rayserve_par.placement.fit import NodeState
from rayserve_par.planning.layout import Layout
from rayserve_par.serving.held_groups import HeldGroup
from rayserve_par.serving.rank_table import InstanceRecord

SETTINGS = ReplanSettings(
    settle_seconds=5.0, lost_settle_seconds=2.0, least_interval_seconds=0.0, trial_seconds=40.0
)
ARGS: dict[str, Any] = {"model": "tiny-llama", "target": "latency", "mock_engine": {}}


@dataclass
class World:
    """One application of TP1 on the only GPU of node a, and what Ray and Serve say of it."""

    now: float = 1000.0
    layout: Layout = field(default_factory=Layout)
    args: dict[str, Any] = field(default_factory=lambda: dict(ARGS))
    deployments: list[dict[str, Any]] = field(default_factory=list)
    nodes: dict[str, int] = field(default_factory=lambda: {"a": 1})
    held_on: str = "a"
    records: dict[str, Any] = field(default_factory=dict)
    override: Override = field(default_factory=Override)
    number: dict[str, Any] | None = None
    statuses: tuple[ControlStatus, ...] = ()
    deployed: int = 0
    fails: bool = False

    def apps(self) -> tuple[AppState, ...]:
        config = {"import_path": "rayserve_par:build_app", "args": self.args}
        other = {"import_path": "rayserve_par:build_controller"}
        return (
            AppState("a", "RUNNING", "", "/", (), "", config, 1),
            AppState("controller", "RUNNING", "", None, (), "", other, 1),
        )

    def redeploy(self, name: str, change: Any) -> None:
        assert name == "a"
        self.deployed += 1
        if self.fails:
            raise ConnectionError("Serve's controller is away")
        config = change({"args": self.args, "deployments": self.deployments})
        self.args, self.deployments = config["args"], config["deployments"]

    def rolled_out(self, layout: Layout, node: str) -> None:
        self.layout, self.held_on = layout, node

    @property
    def cluster(self) -> Cluster:
        return parse_cluster(",".join(f"1x{gpus}xlogical-cpu" for gpus in self.nodes.values()))

    def live_nodes(self) -> list[NodeState]:
        return [
            NodeState(
                name, name, gpus, gpus - (self.layout.gpus if name == self.held_on else 0), 8, name
            )
            for name, gpus in self.nodes.items()
        ]

    def instances(self) -> tuple[InstanceView, ...]:
        if self.held_on not in self.nodes:
            return ()
        one = self.layout
        record = InstanceRecord("g", "a", "r", "x", "m", one.tp, one.pp, one.dp, one.ep, 2.0)
        return (InstanceView(record, one, ()),)

    def groups(self, _app: str) -> tuple[HeldGroup, ...]:
        if self.held_on not in self.nodes:
            return ()
        return (HeldGroup({self.held_on: float(self.layout.gpus)}, {self.held_on: 1.0}),)

    @property
    def record(self) -> ReplanRecord:
        return ReplanRecord.from_object(self.records.get("a"))


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    monkeypatch.setattr(module, "live_cluster", lambda: made.cluster)
    monkeypatch.setattr(module, "live_nodes", made.live_nodes)
    monkeypatch.setattr(module, "living_instances", made.instances)
    monkeypatch.setattr(module, "nodes_of_kind", lambda _: frozenset(made.nodes))
    monkeypatch.setattr(module, "groups_of", made.groups)
    monkeypatch.setattr(store, "read_statuses", lambda: made.statuses)
    monkeypatch.setattr(store, "read_override", lambda _: made.override)
    monkeypatch.setattr(store, "read_number", lambda _: made.number)
    monkeypatch.setattr(store, "read_replan", made.records.get)
    monkeypatch.setattr(store, "write_replan", made.records.__setitem__)
    return made


def looks(world: World, seconds: int, *, dry_run: bool = False) -> list[str]:
    """What was carried out, a look each second, each with a replanner that knows nothing."""
    found = []
    client: Any = world
    for _ in range(seconds):
        world.now += 1
        for outcome in Replanner(client, SETTINGS, lambda: world.now, dry_run).look():
            assert outcome.app == "a"
            if outcome.carried_out and outcome.decision is not None:
                found.append(str(outcome.decision.why))
    return found


def test_a_node_comes_and_the_layout_changes_once(world: World) -> None:
    assert looks(world, 10) == []
    world.nodes["b"] = 2
    assert looks(world, 5) == []
    assert looks(world, 1) == ["better"]
    assert world.args["replanned"] == {
        "tp": 2, "pp": 1, "dp": 1, "ep": 1, "across": "auto", "nodes": "2xlogical-cpu",
        "instances": 1,
    }  # fmt: skip
    assert world.deployments[0]["max_surge_percent"] == 100
    assert looks(world, 5) == []  # the old instance still lives
    world.rolled_out(Layout(tp=2), "b")
    assert looks(world, 30) == ["last_step"]
    assert world.deployments[0]["max_surge_percent"] == 0
    assert world.deployed == 2


def test_the_node_goes_and_the_layout_falls_back(world: World) -> None:
    world.nodes["b"] = 2
    world.args["replanned"] = {"tp": 2}
    world.rolled_out(Layout(tp=2), "b")
    assert looks(world, 10) == []
    del world.nodes["b"]
    assert looks(world, 4) == ["lost"]
    assert world.args["replanned"]["tp"] == 1
    assert "2 > 1" in world.record.log.events[-1].decision.note


def test_a_number_that_its_user_asked_for_later_counts_before_that_of_the_args(
    world: World,
) -> None:
    world.args["num_replicas"] = 1
    world.number = {"instances": 3, "args": dict(world.args)}
    client: Any = world

    def counted() -> Counting:
        [outcome] = Replanner(client, SETTINGS, lambda: world.now).look()
        assert outcome.state is not None
        return outcome.state.counting

    assert counted() == Counting(CountBy.FIXED, number=3)
    world.args["num_replicas"] = 2
    assert counted() == Counting(CountBy.FIXED, number=2)


def test_a_layout_that_its_user_set_is_left_and_what_is_missing_is_said(world: World) -> None:
    world.args["layout"] = {"tp": 2}
    world.rolled_out(Layout(tp=2), "gone")
    assert looks(world, 10) == []
    latest = world.record.latest
    assert latest is not None
    assert latest.why == "missing"
    assert "TP 2 exceeds" in latest.note
    assert world.deployed == 0


def test_who_dies_between_writing_and_doing_is_finished_by_the_next(world: World) -> None:
    assert looks(world, 2) == []
    world.nodes["b"] = 2
    world.fails = True
    with pytest.raises(ConnectionError):
        looks(world, 6)
    assert world.record.undone is not None
    assert "replanned" not in world.args
    world.fails = False
    assert looks(world, 1) == ["better"]
    assert world.record.undone is None
    assert world.args["replanned"]["tp"] == 2
    world.rolled_out(Layout(tp=2), "b")
    assert looks(world, 30) == ["last_step"]
    assert [one.decision.why for one in world.record.log.events if one.carried_out] == [
        "better",
        "last_step",
    ]


def test_what_another_writes_meanwhile_is_not_lost(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`replan --apply` beside a controller: both look, one changes the layout first."""
    world.nodes["b"] = 2
    assert looks(world, 3) == []
    state_of, others = module.state_of, []

    def slow(*given: Any) -> Any:
        if not others:
            others.append("looked")
            others.extend(looks(world, 4))
            world.rolled_out(Layout(tp=2), "b")
        return state_of(*given)

    monkeypatch.setattr(module, "state_of", slow)
    client: Any = world
    [outcome] = Replanner(client, SETTINGS, lambda: world.now, dry_run=True).look()
    assert others == ["looked", "better"]
    assert outcome.problem == ""
    assert world.record.memory.rolling_out
    assert [one.decision.why for one in world.record.log.events if one.carried_out] == ["better"]
    assert looks(world, 1) == ["last_step"]


def test_who_is_always_overtaken_says_so_and_writes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    state_of = module.state_of

    def overtaken(*given: Any) -> Any:
        world.now += 1
        world.records["a"] = replace(world.record, seconds=world.now).as_object()
        return state_of(*given)

    monkeypatch.setattr(module, "state_of", overtaken)
    client: Any = world
    [outcome] = Replanner(client, SETTINGS, lambda: world.now).look()
    assert "another re-planner has written" in outcome.problem
    assert world.record.latest is None


def test_what_failed_and_is_finished_is_told_once_with_its_event(world: World) -> None:
    told: list[Outcome] = []
    client: Any = world

    def look() -> None:
        world.now += 1
        Replanner(client, SETTINGS, lambda: world.now, False, told.append).look()

    look()
    world.nodes["b"] = 2
    world.fails = True
    for _ in range(5):
        look()
    with pytest.raises(ConnectionError):
        look()
    world.fails = False
    for _ in range(3):
        look()
    done = [one for one in told if one.carried_out]
    assert [(one.app, one.model) for one in done] == [("a", "tiny-llama")]
    assert done[0].event is not None
    assert done[0].event.decision.why == "better"
    logged = [one.event for one in told if one.event is not None]
    assert [one.number for one in logged] == [one.number for one in world.record.log.events]


@pytest.mark.parametrize(
    ("override", "dry_run", "mode"),
    [
        (Override(paused=True), False, Mode.PAUSED),
        (Override(instances=3), False, Mode.OVERRIDDEN),
        (Override(dry_run=True), False, Mode.DRY_RUN),
        (Override(), True, Mode.DRY_RUN),
    ],
)
def test_without_leave_it_only_advises(
    world: World, override: Override, dry_run: bool, mode: Mode
) -> None:
    looks(world, 2)
    world.override = override
    world.nodes["b"] = 2
    assert looks(world, 20, dry_run=dry_run) == []
    assert world.deployed == 0
    record = world.record
    assert (record.mode, record.undone) == (mode, None)
    assert record.latest is not None
    assert record.latest.why == "better"
    assert record.memory.trial is None
    assert [one.decision.why for one in record.log.events].count(record.latest.why) == 1
    world.override = Override(paused=True, until_seconds=world.now)
    assert looks(world, 1) == ["better"]


def test_a_look_that_keeps_nothing_writes_nothing(world: World) -> None:
    client: Any = world
    [outcome] = Replanner(client, SETTINGS, lambda: 1.0, True).look(keep=False)
    assert outcome.decision is not None
    assert world.records == {}
    assert Replanner(client, SETTINGS, lambda: 1.0).look("another") == ()


def test_args_that_are_not_valid_are_told(world: World) -> None:
    world.args["laoyut"] = "auto"
    client: Any = world
    [outcome] = Replanner(client, SETTINGS, lambda: 1.0).look()
    assert "laoyut" in outcome.problem


@pytest.mark.parametrize("jump_seconds", [-3600, 3600])
def test_a_clock_that_is_set_delays_nothing_by_more_than_it_would_wait_anyway(
    world: World, jump_seconds: int
) -> None:
    world.nodes["b"] = 2
    assert looks(world, 3) == []
    world.now += jump_seconds
    assert looks(world, 6) == ["better"], "settled, or settled anew"
    world.rolled_out(Layout(tp=2), "b")
    assert looks(world, 3) == ["last_step"]
    del world.nodes["b"]
    assert looks(world, 1) == []
    world.now += jump_seconds
    assert looks(world, 3) == ["lost"]


STATUS = ControlStatus(
    app="a", model="m", layout="TP1", gpus_per_instance=1, seconds=1000.0, mode=Mode.ACTING,
    wanted=1, decided=1, reason="steady", ready=1, starting=0, draining=0, least=1, most=1,
    room=1, requests_per_second=0.5, isl=500.0, osl=100.0, ttft_target_seconds=2.0,
    tpot_target_seconds=0.05, ttft_seconds=0.2, tpot_seconds=0.03, predicted_ttft_seconds=None,
    predicted_tpot_seconds=None, correction=1.0, start_seconds=30.0, decision_seconds=0.01,
)  # fmt: skip


@pytest.mark.parametrize(
    ("look_seconds", "age", "isl", "weight"),
    # Lengths are rounded to 10%: 500 -> e^6.2 = 493.
    [
        (2.0, 1.0, 493, 1.0),
        (2.0, 14.0, 493, 1.0),
        (2.0, 16.0, 1024, 0.0),
        (60.0, 179.0, 493, 1.0),
        (60.0, 181.0, 1024, 0.0),
    ],
)
def test_the_load_is_the_scaling_policys_while_it_is_fresh(
    world: World, look_seconds: float, age: float, isl: int, weight: float
) -> None:
    fresh = replace(STATUS, look_seconds=look_seconds, seconds=world.now + 1 - age)
    world.statuses = (fresh,)
    client: Any = world
    world.now += 1
    [outcome] = Replanner(client, SETTINGS, lambda: world.now).look()
    assert outcome.state is not None
    assert outcome.state.isl == isl
    window = world.record.memory.window
    assert (window.weight if window else 0.0) == weight


@pytest.mark.parametrize(
    ("target", "stated", "seen"),
    [
        ("latency", None, 3.0),  # one stream's layout, whatever rate is seen
        ("rate", 2.0, 0.0),  # with no requests, that of the rate that was planned
    ],
)
def test_every_target_has_candidates_at_the_load_that_is_seen(
    world: World, target: str, stated: float | None, seen: float
) -> None:
    world.nodes["b"] = 2
    world.args |= {"target": target, "workload": {"ttft_ms": 2000, "tpot_ms": 50, "rate": stated}}
    world.args["autoscaling"] = {"max_replicas": 2}
    world.statuses = (replace(STATUS, seconds=world.now, requests_per_second=seen),)
    client: Any = world
    [outcome] = Replanner(client, SETTINGS, lambda: world.now).look()
    assert outcome.problem == ""
    assert outcome.state is not None
    assert "TP1" in {one.layout.label for one in outcome.state.candidates}
    assert outcome.state.rate == pytest.approx(seen or stated, rel=0.1)


def test_a_layout_that_is_slower_in_fact_is_taken_back_and_not_tried_again(world: World) -> None:
    def measured(tpot_seconds: float) -> None:
        world.statuses = (replace(STATUS, seconds=world.now + 100, tpot_seconds=tpot_seconds),)

    measured(0.03)
    world.nodes["b"] = 2
    assert looks(world, 6) == ["better"]
    world.rolled_out(Layout(tp=2), "b")
    measured(0.08)
    assert looks(world, 30) == ["last_step"]
    measured(0.08)
    assert looks(world, 30) == ["worse"]
    assert world.args["replanned"]["tp"] == 1
    assert "TPOT 80 ms breaks 50 ms, was 30" in world.record.log.events[-1].decision.note
    world.rolled_out(Layout(tp=1), "a")
    measured(0.03)
    assert looks(world, 60) == ["last_step"]
    assert world.deployed == 4
