"""What is written down for others beside the decisions, at the edge of Serve's controller."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("ray", reason="the policy's edge needs Ray")

from rayserve_par.control.live import surroundings as module
from rayserve_par.control.live.book import Book
from rayserve_par.control.live.records import NO_OVERRIDE, ControlStatus
from rayserve_par.control.live.surroundings import Surroundings
from tests.unit.control.live.operated import control_status
from tests.unit.control.live.test_live_controller import SETTINGS


class Ignored:
    def export(self, _status: ControlStatus) -> None:
        return


@pytest.mark.parametrize("jump_seconds", [-3600.0, 0.0, 3600.0])
def test_a_status_has_the_time_of_its_readers_whatever_became_of_the_clock(
    monkeypatch: pytest.MonkeyPatch, jump_seconds: float
) -> None:
    """Decisions keep a clock that is never set; who reads the status compares it with today's."""
    decided, written = 1_000_000.0, list[ControlStatus]()
    monkeypatch.setattr(module, "_keep", lambda *_: None)  # turned by the test instead
    monkeypatch.setattr(module, "ControlMetrics", Ignored)
    monkeypatch.setattr(module.store, "write_status", written.append)
    monkeypatch.setattr(module.store, "read_override", lambda _app: NO_OVERRIDE)
    monkeypatch.setattr(module.time, "time", lambda: decided + jump_seconds)
    monkeypatch.setattr(module, "read_instances", lambda: ())
    placement: Any = SETTINGS.placement
    around = Surroundings("a", placement, SETTINGS.gpu, Book(lambda: 0.0))
    around.post(control_status("a", seconds=decided), None)
    around.turn()
    [status] = written
    assert not status.stale(decided + jump_seconds + 1)
    assert status.stale(decided + jump_seconds + 60)
