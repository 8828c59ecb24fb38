"""An application that keeps to one node group: what is planned on, and what Ray is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rayserve_par.control.config_file import read_config
from rayserve_par.errors import RefusedError
from rayserve_par.hardware.cluster import parse_cluster
from rayserve_par.serving import cluster_view
from rayserve_par.serving.app import plan_for, replica_spec
from rayserve_par.serving.cluster_view import kind_selector
from rayserve_par.serving.config import parse_args
from rayserve_par.serving.mock_engine.times import EngineTimes
from rayserve_par.serving.model_store.locate import locate_model

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
CONFIGS = Path(__file__).parents[3] / "configs"
MIXED = "2x8xH100,1x8xH200"


def planned(**args: Any) -> Any:
    model = locate_model(LLAMA, prepare=False)
    return plan_for(parse_args({"model": LLAMA, **args}, "x"), model, parse_cluster(MIXED))


@pytest.mark.parametrize(("node_group", "label"), [("H100", "2x8xH100"), ("h200", "1x8xH200")])
@pytest.mark.parametrize("layout", ["auto", {"tp": 4}])
def test_only_the_group_is_planned_on(node_group: str, label: str, layout: Any) -> None:
    made = planned(node_group=node_group, layout=layout, num_replicas="fit")
    assert made.node_group.label == label
    assert made.gpus <= made.node_group.gpus
    assert made.instances == made.node_group.gpus // made.layout.gpus


def test_more_instances_than_the_group_holds_are_refused() -> None:
    assert planned(layout={"tp": 8}, num_replicas=2).node_group.gpu.name == "H100"
    with pytest.raises(RefusedError, match="1x8xH200 has 8 GPUs and holds 1"):
        planned(layout={"tp": 8}, num_replicas=2, node_group="H200")


@pytest.mark.parametrize("node_group", ["h200", None])
def test_the_front_is_told_the_group_and_what_a_full_instance_does(node_group: str | None) -> None:
    args = parse_args({"model": LLAMA, "node_group": node_group}, "x")
    model, made = locate_model(LLAMA, prepare=False), planned(node_group=node_group)
    spec = replica_spec(args, model, made)
    assert spec.node_group == ("H200" if node_group else None)
    assert spec.full_requests_per_second == made.point.requests_per_second
    times = {"step_base_seconds": 0.1, "max_num_seqs": 8}
    mocked = parse_args({"model": LLAMA, "mock_engine": times}, "x")
    figure = EngineTimes.from_mapping(times).full_requests_per_second(1024, 256)
    assert replica_spec(mocked, model, made).full_requests_per_second == figure


def test_a_group_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(RefusedError, match=r"^node_group: .*'B200'.* H100, H200\.$"):
        planned(node_group="B200")


def node(name: str, labels: dict[str, str], kind: str = "H100") -> dict[str, Any]:
    return {
        "NodeID": name,
        "NodeName": name,
        "Alive": True,
        "Labels": labels,
        "Resources": {"GPU": 8.0, f"accelerator_type:{kind}": 1.0},
    }


def test_what_is_pinned_has_a_selector_where_all_nodes_are_alike(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nodes of another kind may come later."""
    nodes = [node(name, {"ray.io/accelerator-type": "H100"}) for name in "ab"]
    monkeypatch.setattr(cluster_view.ray, "nodes", lambda: nodes)
    assert kind_selector("H100") is None
    assert kind_selector("H100", pinned=True) == {"ray.io/accelerator-type": "in(H100)"}


def test_what_is_pinned_needs_a_label(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [node("a", {"ray.io/accelerator-type": "H100"}), node("b", {})]
    monkeypatch.setattr(cluster_view.ray, "nodes", lambda: nodes)
    with pytest.raises(RefusedError, match=r"ray start --labels rayserve-par\.io/gpu=H100"):
        kind_selector("H100", pinned=True)


def test_the_config_of_two_kinds_plans_each_application_on_its_own() -> None:
    config = read_config(CONFIGS / "llama-3.3-70b-h100-h200.yaml")
    kinds = []
    for app in config.apps:
        cluster = parse_cluster(app.args.hardware or "")
        made = plan_for(app.args, locate_model(app.args.model, prepare=False), cluster)
        assert made.gpus == made.node_group.gpus == 8
        kinds.append((app.args.public_names, made.node_group.gpu.name))
    assert kinds == [(("llama-3.3-70b",), "H100"), (("llama-3.3-70b",), "H200")]
