"""What fits where: once the application's own groups are gone, beside them, and in their place."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("ray", reason="placement groups are Ray's")

from rayserve_par.control.replanning import candidates as module
from rayserve_par.control.replanning.candidates import Room, candidates, planned_as, prospects
from rayserve_par.control.replanning.document import with_choice
from rayserve_par.errors import RefusedError
from rayserve_par.hardware.cluster import parse_cluster
from rayserve_par.model.known import known_model
from rayserve_par.placement.bundles import placement_for
from rayserve_par.placement.fit import NodeState, free_room
from rayserve_par.planning.layout import Layout
from rayserve_par.serving.app import plan_for
from rayserve_par.serving.config import ReplannedArgs, parse_args
from rayserve_par.serving.held_groups import HeldGroup, freed, groups_of

CLUSTER = parse_cluster("2x2xlogical-cpu")


def node(name: str, free: float, *, total: float = 2.0, cpus: float = 8.0) -> NodeState:
    return NodeState(name, name, total, free, cpus, name)


def room(*nodes: NodeState, held: tuple[HeldGroup, ...] = ()) -> Room:
    names = frozenset(one.node_id for one in nodes)
    return Room(nodes, held, lambda _: names)


@pytest.mark.parametrize(
    ("layout", "across", "nodes", "instances"),
    [
        (Layout(tp=2), False, [node("a", 2), node("b", 1)], 1),
        (Layout(tp=1), False, [node("a", 2), node("b", 1)], 3),
        (Layout(tp=1), False, [node("a", 2, cpus=1), node("b", 1)], 2),
        (Layout(tp=1), False, [node("a", 2, cpus=0), node("b", 0)], 0),
        (Layout(pp=2), True, [node("a", 2), node("b", 2)], 2),
        (Layout(pp=2), True, [node("a", 2), node("b", 0)], 0),
        (Layout(pp=2), True, [node("a", 2, cpus=0), node("b", 2, cpus=1)], 1),
    ],
)
def test_free_room(layout: Layout, across: bool, nodes: list[NodeState], instances: int) -> None:
    placement = placement_for(layout, across_nodes=across, gpus_per_node=2)
    assert free_room(placement, nodes) == instances


ARGS = parse_args({"model": "tiny-llama", "target": "latency", "mock_engine": {}}, "a")
TP1, TP2 = ReplannedArgs(tp=1), ReplannedArgs(tp=2)
ON_A = HeldGroup({"a": 1.0}, {"a": 1.0})
BOTH_OF_A = HeldGroup({"a": 2.0}, {"a": 1.0})


@pytest.mark.parametrize(
    ("asked", "nodes", "held", "found"),
    [
        # room once the own are gone, beside what runs, in the place of any one of them
        (TP2, [node("a", 1), node("b", 2)], (ON_A,), (2, 1, False)),
        (TP1, [node("a", 0), node("b", 0)], (BOTH_OF_A,), (2, 0, True)),
        (TP2, [node("a", 0), node("b", 0)], (ON_A, ON_A), (1, 0, False)),
        (TP2, [node("a", 0), node("b", 0)], (BOTH_OF_A,), (1, 0, True)),
    ],
)
def test_a_prospects_room(
    asked: ReplannedArgs,
    nodes: list[NodeState],
    held: tuple[HeldGroup, ...],
    found: tuple[int, int, bool],
) -> None:
    [made] = planned_as(ARGS, CLUSTER, asked).plans
    one = room(*nodes, held=held).prospect(made)
    assert (one.room, one.beside, one.in_place) == found


def test_the_planners_choice_is_first_and_its_numbers_are_those_of_the_explicit_layout() -> None:
    plans = candidates(ARGS, CLUSTER).plans
    found = prospects(room(node("a", 2), node("b", 2)), plans)
    assert found[0].layout == Layout(tp=2)
    assert Layout(tp=1) in {one.layout for one in found}
    assert len({one.label for one in found}) == len(found)
    explicit = room(node("a", 2), node("b", 2)).prospect(planned_as(ARGS, CLUSTER, TP2).plans[0])
    assert found[0] == explicit


def test_what_does_not_fit_says_what_is_missing() -> None:
    two_nodes = planned_as(
        ARGS, parse_cluster("1x2xlogical-cpu"), ReplannedArgs(pp=2, across="nodes")
    )
    assert two_nodes.plans == ()
    assert "2 nodes per instance, 1 node" in two_nodes.refusal
    [made] = planned_as(ARGS, CLUSTER, TP2).plans
    assert room(node("a", 2)).missing(made) == ""
    assert "holds 0" in room(node("a", 1), node("b", 1)).missing(made)


def group(name: str, state: str, bundles: dict[int, str], gpus: float = 1.0) -> dict[str, Any]:
    return {
        "name": name,
        "state": state,
        "bundles": {index: {"GPU": gpus} for index in bundles},
        "bundles_to_node_id": bundles,
    }


def test_groups_of_an_application_are_known_by_serves_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = {
        "1": group("SERVE_REPLICA::a#instance#x", "CREATED", {0: "n1", 1: "n2"}),
        "2": group("SERVE_REPLICA::ab#instance#x", "CREATED", {0: "n1"}),
        "3": group("SERVE_REPLICA::a#instance#y", "PENDING", {0: ""}),
        "4": group("SERVE_REPLICA::a#instance#z", "RESCHEDULING", {0: "n1", 1: ""}),
        "5": group("SERVE_REPLICA::a#instance#w", "REMOVED", {0: "n1"}),
    }
    monkeypatch.setattr("ray.util.placement_group_table", lambda: table)
    found = groups_of("a")
    assert [dict(one.gpus) for one in found] == [{"n1": 1.0, "n2": 1.0}, {"n1": 1.0}]
    assert [one.gpus_held for one in found] == [2.0, 1.0]
    [first, second] = freed([node("n1", 0), node("n2", 2)], found)
    assert (first.gpus_free, second.gpus_free) == (2.0, 2.0)


def test_on_a_mixed_cluster_a_choice_stays_on_the_nodes_that_it_was_made_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = known_model("openai/gpt-oss-120b")
    model: Any = SimpleNamespace(spec=spec, load_path="m")
    monkeypatch.setattr(module, "_model", lambda _: model)
    args = parse_args({"model": "openai/gpt-oss-120b"}, "a")
    mixed = parse_cluster("2x8xH100,1x8xH200")
    plans = candidates(args, mixed).plans
    auto = plan_for(args, model, mixed)
    assert plans[0].layout == auto.layout
    assert plans[0].node_group.gpu.name == auto.node_group.gpu.name == "H200"
    prospects_there = [room(node("a", 8)).prospect(one) for one in plans]
    for one in prospects_there:
        args_there = parse_args(with_choice({"args": {"model": "m"}}, one.choice(1))["args"], "a")
        made = plan_for(args_there, model, mixed)
        assert (made.layout, made.node_group.shape) == (one.layout, one.node_group)
    gone = parse_cluster("2x8xH100")
    lost = parse_args({"model": "m", "replanned": {"tp": 1, "nodes": "8xH200"}}, "a")
    with pytest.raises(RefusedError, match="nodes of 8xH200; the cluster has 2x8xH100"):
        plan_for(lost, model, gone)
