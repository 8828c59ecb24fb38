"""What Serve is told, what is kept, and what the controller's args may say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("ray", reason="the controller's modules need Ray")

from rayserve_par.control.decide.change_way import Step, Way
from rayserve_par.control.decide.prospect import Choice, CountBy, Counting
from rayserve_par.control.decide.replan_events import ReplanLog
from rayserve_par.control.decide.replan_state import (
    Action,
    Barred,
    ReplanDecision,
    ReplanMemory,
    Trial,
    Why,
)
from rayserve_par.control.decide.trial import Expectation, Figures, Window
from rayserve_par.control.replanning.act import carry_out
from rayserve_par.control.replanning.controller import controller_args
from rayserve_par.control.replanning.document import (
    keeping_choices,
    number_asked,
    with_choice,
    with_step,
)
from rayserve_par.control.replanning.look import counting_of
from rayserve_par.control.replanning.record import ReplanRecord
from rayserve_par.errors import RefusedError
from rayserve_par.planning.layout import Layout
from rayserve_par.serving.config import parse_args
from tests.unit.control.decide.replan_cases import TP1, TP2, state

TWO_PP2 = Choice(Layout(pp=2), True, "8xH200", 2)
APP: dict[str, Any] = {
    "name": "a",
    "import_path": "rayserve_par:build_app",
    "args": {"model": "tiny-llama", "layout": "auto"},
}


def test_the_choice_stands_beside_the_users_auto_and_is_obeyed() -> None:
    changed = with_choice(APP, TWO_PP2)
    assert "replanned" not in APP["args"]
    assert changed["args"]["layout"] == "auto"
    args = parse_args(changed["args"], "a")
    assert args.layout_request is not None
    assert args.layout_request.layout == TWO_PP2.layout
    assert args.layout_request.across == "nodes"
    assert args.replanned is not None
    assert args.replanned.instances == 2
    assert args.replanned.nodes == "8xH200"


def test_a_choice_beside_a_users_layout_is_refused() -> None:
    given = {"model": "m", "layout": {"tp": 2}, "replanned": {"tp": 1}}
    with pytest.raises(RefusedError, match="replanned goes with layout: auto only"):
        parse_args(given, "a")


@pytest.mark.parametrize(
    ("entries", "sets_number", "expected"),
    [
        (
            None,
            True,
            [{"name": "instance", "max_surge_percent": 50, "rolling_update_percentage": 0.2,
              "num_replicas": 3}],
        ),
        (
            [{"name": "instance", "max_ongoing_requests": 9}, {"name": "other"}],
            False,
            [{"name": "instance", "max_ongoing_requests": 9, "max_surge_percent": 50,
              "rolling_update_percentage": 0.2}, {"name": "other"}],
        ),
    ],
)  # fmt: skip
def test_a_step_changes_the_replicas_entry_only(
    entries: list[dict[str, Any]] | None, sets_number: bool, expected: list[dict[str, Any]]
) -> None:
    given = {**APP, **({"deployments": entries} if entries else {})}
    changed = with_step(given, Step(3, 50, 0.2), sets_number=sets_number)
    assert changed["deployments"] == expected
    assert changed["args"] == APP["args"]
    assert with_step(changed, Step(3, 50, 0.2), sets_number=sets_number) == changed


class FakeClient:
    """Keeps one application's config, as Serve would."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.deployed = 0

    def redeploy(self, _name: str, change: Any) -> None:
        self.config = change(self.config)
        self.deployed += 1


CHANGE = ReplanDecision(
    Action.CHANGE, Why.BETTER, "", choice=TWO_PP2, way=Way.SURGE, step=Step(2, 100, 1e-6)
)
COUNT = ReplanDecision(Action.COUNT, Why.ROOM, "", choice=TWO_PP2, step=Step(4, 0, 0.2))


def test_a_number_alone_leaves_the_args_as_they_are() -> None:
    client: Any = FakeClient(APP)
    carry_out(client, "a", COUNT, Counting(CountBy.FIT))
    assert client.config["args"] == APP["args"]
    assert client.config["deployments"][0]["num_replicas"] == 4


def test_the_same_decision_twice_is_the_same_document() -> None:
    client: Any = FakeClient(APP)
    carry_out(client, "a", CHANGE, Counting(CountBy.FIT))
    once = client.config
    carry_out(client, "a", CHANGE, Counting(CountBy.FIT))
    assert client.config == once
    assert once["deployments"][0]["max_surge_percent"] == 100


def test_the_scaling_policy_keeps_its_number() -> None:
    client: Any = FakeClient(APP)
    carry_out(client, "a", CHANGE, Counting(CountBy.POLICY, least=1, most=4))
    assert "num_replicas" not in client.config["deployments"][0]


def test_a_layout_that_its_user_has_set_since_stays() -> None:
    explicit = {**APP, "args": {"model": "tiny-llama", "layout": {"tp": 2}}}
    client: Any = FakeClient(explicit)
    carry_out(client, "a", CHANGE, Counting(CountBy.FIXED))
    assert client.config == explicit


def test_the_same_config_deployed_again_keeps_the_choice() -> None:
    other = {"name": "b", "args": {"model": "x"}}
    deployed = with_step(with_choice(APP, TWO_PP2), Step(2, 0, 0.2), sets_number=True)
    by_name = {"a": deployed, "b": other}
    again = keeping_choices({"http_options": {}, "applications": [APP, other]}, by_name, {})
    assert again.document == {"http_options": {}, "applications": [deployed, other]}
    changed = {**APP, "args": {**APP["args"], "target": "latency"}}
    new = keeping_choices({"applications": [changed, other]}, by_name, {})
    assert new.document == {"applications": [changed, other]}
    assert new.numbers == {}
    assert keeping_choices({"applications": [APP]}, {}, {}).document == {"applications": [APP]}


def numbered(number: Any, **more: Any) -> dict[str, Any]:
    return {**APP, "args": {**APP["args"], "num_replicas": number}, **more}


def without_number(**more: Any) -> dict[str, Any]:
    return {**APP, "args": {**APP["args"], **more}}


@pytest.mark.parametrize(
    ("deployed", "expected"),
    [
        pytest.param(without_number(), (None, 3), id="one, without a word"),
        pytest.param(without_number(workload={"rate": 9.0}), None, id="as many as carry a rate"),
        pytest.param(without_number(autoscaling={"max_replicas": 4}), None, id="scaled"),
    ],
)
def test_a_number_where_there_was_none(deployed: dict[str, Any], expected: Any) -> None:
    """What decided the number before was no number: Serve gets the new args."""
    given = {**deployed, "args": {**deployed["args"], "num_replicas": 3}}
    assert serve_gets(given, deployed, None) == (expected or (3, None))


def test_applications_of_others_stay_as_they_are() -> None:
    other = {"name": "b", "import_path": "their.own:app"}
    kept = keeping_choices({"applications": [other]}, {"b": {**other, "args": {}}}, {"b": None})
    assert kept.document == {"applications": [other]}
    assert kept.numbers == {}


def serve_gets(entry: dict[str, Any], deployed: dict[str, Any], asked: int | None) -> Any:
    """The `num_replicas` of the args and of the deployment."""
    kept = keeping_choices({"applications": [entry]}, {"a": deployed}, {"a": asked})
    [found] = kept.document["applications"]
    [options] = found.get("deployments") or [{}]
    return found["args"].get("num_replicas"), options.get("num_replicas")


@pytest.mark.parametrize(
    ("given", "asked", "args", "deployment"),
    [
        pytest.param(2, None, 2, None, id="nothing changes"),
        pytest.param(3, None, 2, 3, id="a number changes"),
        pytest.param(3, 3, 2, 3, id="and is deployed again"),
        pytest.param(2, 3, 2, 2, id="and changes back"),
        pytest.param("fit", None, "fit", None, id="it is no number any more"),
    ],
)
def test_another_number_alone_replaces_no_instance(
    given: Any, asked: int | None, args: Any, deployment: int | None
) -> None:
    """Args that are as deployed are the same code to Serve."""
    assert serve_gets(numbered(given), numbered(2), asked) == (args, deployment)


def test_another_number_of_a_chosen_layout_keeps_the_choice() -> None:
    deployed = with_step(with_choice(numbered(2), TWO_PP2), Step(1, 0, 0.2), sets_number=True)
    # The controller found room for one; the user's file says what it said.
    assert serve_gets(numbered(2), deployed, None) == (2, 1)
    kept = keeping_choices({"applications": [numbered(4)]}, {"a": deployed}, {})
    [found] = kept.document["applications"]
    assert found["args"] == deployed["args"]
    assert found["deployments"][0]["num_replicas"] == 4
    assert found["deployments"][0]["max_surge_percent"] == 0


def test_a_number_that_a_config_sets_for_the_deployment_goes_first() -> None:
    entries = [{"name": "instance", "num_replicas": 5}]
    assert serve_gets(numbered(3, deployments=entries), numbered(2), None) == (2, 5)


def test_a_number_is_remembered_for_the_args_that_it_was_asked_for() -> None:
    kept = keeping_choices({"applications": [numbered(3)]}, {"a": numbered(2)}, {})
    [number] = kept.numbers.values()
    assert number_asked(number, numbered(2)["args"]) == 3
    assert number_asked(number, with_choice(numbered(2), TWO_PP2)["args"]) == 3
    assert number_asked(number, numbered(4)["args"]) is None
    assert number_asked(None, numbered(2)["args"]) is None
    counted = counting_of(parse_args(numbered(2)["args"], "a"), 3)
    assert counted == Counting(CountBy.FIXED, number=3)


def test_a_record_comes_back_from_json_as_it_was() -> None:
    window = Window(1.0).after(2.0, Figures(3.0, 0.2, 0.02))
    memory = ReplanMemory(
        cluster="2x8xH100",
        changed_seconds=5.0,
        window=window,
        rolling_out=True,
        trial=Trial(TP1.choice(1), window, Expectation(0.5, 0.04, 2.0, 0.05), 3.0, window),
        barred=(Barred(TWO_PP2, 99.0),),
    )
    log = ReplanLog().after("a", state(TP1, TP2), memory, CHANGE, carried_out=True)
    record = ReplanRecord("{}", 7.0, memory, log, TWO_PP2, CHANGE, CHANGE, "acting")
    assert ReplanRecord.from_object(record.as_object()) == record
    assert ReplanRecord.from_object(None) == ReplanRecord()


def test_other_args_of_the_user_begin_anew_and_the_controllers_own_do_not() -> None:
    memory = ReplanMemory(cluster="2x8xH100")
    record = ReplanRecord(memory=memory).for_config({"model": "a"})
    assert record.memory == ReplanMemory()
    record = ReplanRecord(config=record.config, memory=memory)
    assert record.for_config({"model": "a", "replanned": {"tp": 2}}) == record
    assert record.for_config({"model": "b"}).memory == ReplanMemory()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"look_seconds": 0}, "greater than 0"),
        ({"replan": {"settle": 1}}, "unknown key 'settle'; valid keys: least_gain"),
        ({"replan": {"least_gain": -1}}, "least_gain is -1"),
        ({"looks": 1}, "look_seconds"),
    ],
)
def test_controller_args_that_cannot_be_are_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(RefusedError, match=words):
        controller_args(given)


def test_controller_args() -> None:
    args = controller_args({"look_seconds": 2, "replan": {"allow_outage": True}})
    assert args.settings.allow_outage
    assert args.settings.least_gain == 0.15


ROOT = Path(__file__).parents[4]


def test_every_reason_has_a_row_in_the_docs() -> None:
    page = (ROOT / "docs" / "replanning.md").read_text(encoding="utf-8")
    assert [why for why in Why if f"| `{why}` |" not in page] == []


def test_the_example_config_is_one() -> None:
    text = (ROOT / "configs" / "tiny-llama-replan.yaml").read_text(encoding="utf-8")
    model, controller = yaml.safe_load(text)["applications"]
    assert parse_args(model["args"], model["name"]).layout == "auto"
    assert controller["import_path"] == "rayserve_par:build_controller"
    assert controller["route_prefix"] is None
    assert controller_args(controller["args"]).settings.settle_seconds == 60
