"""What is written down for others beside the decisions, at the edge of Serve's controller."""

from __future__ import annotations

import pytest

pytest.importorskip("ray", reason="the policy's edge needs Ray")

from rayserve_par.control.live import surroundings as module
from rayserve_par.control.live.book import Book
from rayserve_par.control.live.gpu_view import GpuView
from rayserve_par.control.live.records import NO_OVERRIDE, ControlStatus
from rayserve_par.control.live.surroundings import Surroundings
from tests.unit.control.live.operated import control_status
from tests.unit.control.live.test_live_controller import SETTINGS


class Ignored:
    def export(self, _status: ControlStatus) -> None:
        return


def surroundings(monkeypatch: pytest.MonkeyPatch, now: float) -> Surroundings:
    monkeypatch.setattr(module, "_keep", lambda *_: None)  # turned by the test instead
    monkeypatch.setattr(module, "ControlMetrics", Ignored)
    monkeypatch.setattr(module.store, "read_override", lambda _app: NO_OVERRIDE)
    monkeypatch.setattr(module.time, "time", lambda: now)
    monkeypatch.setattr(module, "read_instances", lambda: ())
    monkeypatch.setattr(module, "read_gpu_view", GpuView)
    return Surroundings("a", SETTINGS.placement, SETTINGS.gpu, Book(lambda: 0.0))


@pytest.mark.parametrize(("age_seconds", "known"), [(5.0, True), (500.0, True), (700.0, False)])
def test_lengths_are_those_of_the_status_that_was_there_before_unless_it_is_old(
    monkeypatch: pytest.MonkeyPatch, age_seconds: float, known: bool
) -> None:
    now = 1_000_000.0
    kept = {
        one.app: one
        for one in (
            control_status("a", seconds=now - age_seconds, isl=900.0, osl=16.0),
            control_status("b", seconds=now, isl=5.0, osl=5.0),
        )
    }
    monkeypatch.setattr(module.store, "read_statuses", lambda: tuple(kept.values()))
    monkeypatch.setattr(module.store, "write_status", lambda one: kept.__setitem__(one.app, one))
    around = surroundings(monkeypatch, now)
    around.post(control_status("a", seconds=now, isl=64.0, osl=32.0), None)
    around.turn()
    assert kept["a"].isl == 64.0
    around.turn()
    assert around.around.learned == ((900.0, 16.0) if known else None)
    assert around.around.problem is None


@pytest.mark.parametrize("jump_seconds", [-3600.0, 0.0, 3600.0])
def test_a_status_has_the_time_of_its_readers_whatever_became_of_the_clock(
    monkeypatch: pytest.MonkeyPatch, jump_seconds: float
) -> None:
    """Decisions keep a clock that is never set; who reads the status compares it with today's."""
    decided, written = 1_000_000.0, list[ControlStatus]()
    monkeypatch.setattr(module.store, "write_status", written.append)
    monkeypatch.setattr(module.store, "read_statuses", lambda: ())
    around = surroundings(monkeypatch, decided + jump_seconds)
    around.post(control_status("a", seconds=decided), None)
    around.turn()
    [status] = written
    assert not status.stale(decided + jump_seconds + 1)
    assert status.stale(decided + jump_seconds + 60)
