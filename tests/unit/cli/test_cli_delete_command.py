"""What `delete` forgets, and when: over a Serve and a store that are sets of names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

pytest.importorskip("ray", reason="the store is Ray's")

from rayserve_par.cli import connect as connecting
from rayserve_par.cli.main import app as command
from rayserve_par.control import observe
from rayserve_par.control.live import store
from rayserve_par.control.serve_client import ServeClient
from tests.unit.control.live.operated import app_state


@dataclass
class World:
    """`ends` are the seconds at which an application is gone from Serve and then from its GPUs."""

    ends: dict[str, tuple[float, float]]
    deployed: set[str]
    kept: set[str]
    now: float = 0.0
    then: dict[float, Callable[[], None]] = field(default_factory=dict)
    doomed: set[str] = field(default_factory=set)
    holding: set[str] = field(default_factory=set)
    forgotten: list[tuple[str, float]] = field(default_factory=list)

    def delete(self, names: list[str]) -> None:
        self.doomed, self.holding = set(names), set(self.deployed)

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for name in self.doomed & set(self.ends):
            served, held = self.ends[name]
            if self.now >= served:
                self.deployed.discard(name)
            if self.now >= held:
                self.holding.discard(name)
                self.doomed.discard(name)
        for moment in [one for one in self.then if one <= self.now]:
            self.then.pop(moment)()

    def forget(self, name: str) -> None:
        self.kept.discard(name)
        self.forgotten.append((name, self.now))

    def run(self, *arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(command, ["delete", *arguments])
        said = done.output if done.exception is None else str(done.exception)
        return done.exit_code, said


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(
        ends={"a": (2.0, 5.0), "b": (1.0, 1.0)}, deployed={"a", "b"}, kept={"a", "b", "old"}
    )

    def views() -> list[SimpleNamespace]:
        return [SimpleNamespace(record=SimpleNamespace(app=one)) for one in made.holding]

    monkeypatch.setattr(connecting, "connect", lambda _: None)
    monkeypatch.setattr(
        ServeClient, "apps", lambda _: [app_state(n) for n in sorted(made.deployed)]
    )
    monkeypatch.setattr(ServeClient, "delete", made.delete)
    monkeypatch.setattr(observe, "living_instances", views)
    monkeypatch.setattr(store, "forget", made.forget)
    monkeypatch.setattr(store, "decided_apps", lambda: tuple(sorted(made.kept)))
    monkeypatch.setattr("time.sleep", made.sleep)
    monkeypatch.setattr("time.monotonic", lambda: made.now)
    return made


@pytest.mark.parametrize(
    ("arguments", "kept", "forgotten"),
    [
        (["a"], {"b", "old"}, [("a", 5.0)]),
        (["b"], {"a", "old"}, [("b", 1.0)]),
        ([], {"old"}, [("a", 5.0), ("b", 5.0)]),
        (["old"], {"a", "b", "old"}, []),
    ],
)
def test_what_was_deleted_is_forgotten_once_it_is_gone(
    world: World, arguments: list[str], kept: set[str], forgotten: list[tuple[str, float]]
) -> None:
    world.run(*arguments)
    assert world.kept == kept
    assert sorted(world.forgotten) == forgotten


@pytest.mark.parametrize("late", [5.5, 6.0, 7.0])
def test_what_a_controller_writes_last_is_forgotten_as_well(world: World, late: float) -> None:
    world.then = {late: lambda: world.kept.add("a")}
    assert world.run("a")[0] == 0
    assert "a" not in world.kept
    assert world.now >= late + 3.0


def test_one_that_is_deployed_again_is_left_alone(world: World) -> None:
    def deploy() -> None:
        world.deployed.add("a")
        world.kept.add("a")

    world.then = {6.5: deploy}
    assert world.run("a")[0] == 0
    assert "a" in world.kept


def test_one_that_never_kept_anything_is_not_waited_for(world: World) -> None:
    world.kept = set()
    assert world.run("a")[0] == 0
    assert world.now == 5.0


def test_a_writer_that_does_not_end_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "decided_apps", lambda: ("a",))
    code, said = world.run("a")
    assert (code, "still writes the status of a" in said) == (0, True)


def test_what_does_not_go_is_not_forgotten(world: World) -> None:
    del world.ends["a"]
    code, said = world.run()
    assert code != 0
    assert "a: GPUs are still held after 720 s" in said
    assert world.kept == {"a", "old"}
