"""What is around an application: free GPUs, instances that end, the operator's wish. In a thread.

The policy runs in Ray Serve's controller, whose loop must not wait for the cluster's tables. So a
thread reads them every few seconds and writes the policy's status, events and metrics; the policy
takes what was read last. The thread ends when its owner is gone: it holds it weakly.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from rayserve_par.control.live import store
from rayserve_par.control.live.book import Book
from rayserve_par.control.live.gpu_view import read_gpu_view
from rayserve_par.control.live.metrics import ControlMetrics
from rayserve_par.control.live.records import NO_OVERRIDE, ControlStatus, Override
from rayserve_par.placement.bundles import Placement
from rayserve_par.placement.fit import free_room
from rayserve_par.serving.rank_table import read_instances
from rayserve_par.serving.verification import actor_nodes

logger = logging.getLogger("ray.serve")

_WAKE_SECONDS = 1.0
_CLUSTER_SECONDS = 5.0
_LEARNED_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Around:
    """`living` are the replica ids of all instances whose actors live, draining ones included.

    `learned` are ISL and OSL of the policy before this one, None where there was none lately.
    """

    override: Override = NO_OVERRIDE
    room: int | None = None
    living: frozenset[str] = frozenset()
    problem: str | None = None
    learned: tuple[float, float] | None = None

    def draining(self, ran: Collection[str], running: Collection[str]) -> int:
        """Instances that ran, live, and that Serve no longer calls running."""
        return len(self.living.intersection(ran) - set(running))


class Surroundings:
    """Reads and writes for one application, never in the caller's thread."""

    def __init__(self, app: str, placement: Placement, gpu: str, book: Book) -> None:
        self._app, self._placement, self._gpu, self._book = app, placement, gpu, book
        self._around = Around()
        self._began = False
        self._status: ControlStatus | None = None
        self._shown: ControlStatus | None = None
        self._metrics = ControlMetrics()
        self._log: Mapping[str, Any] | None = None
        self._looked_at = float("-inf")
        self._wake = threading.Event()
        threading.Thread(
            target=_keep, args=(weakref.ref(self), self._wake), daemon=True, name="control-watch"
        ).start()

    @property
    def around(self) -> Around:
        """As of the latest reading."""
        return self._around

    def post(self, status: ControlStatus, log: Mapping[str, Any] | None) -> None:
        """Have the status written soon, and the log where it is given."""
        self._status = status
        if log is not None:
            self._log = log
        self._wake.set()

    def turn(self) -> None:
        """Write what is due and read what may have changed; in the thread."""
        try:
            if not self._began:
                self._around = replace(self._around, learned=self._learned())
                self._began = True
            self._write()
            override = store.read_override(self._app)
            around = replace(self._around, override=override, problem=None)
            if time.monotonic() - self._looked_at >= _CLUSTER_SECONDS:
                self._looked_at = time.monotonic()
                around = replace(around, room=self._room(), living=self._living())
            self._around = around
        except Exception as error:
            logger.exception("The controller cannot read or write the cluster; it tries again.")
            self._around = replace(
                self._around, room=None, problem=f"the cluster's tables cannot be read: {error}"
            )

    def _learned(self) -> tuple[float, float] | None:
        """From the status that is there before this policy writes its first one."""
        found = (one for one in store.read_statuses() if one.app == self._app)
        last = next(found, None)
        if last is None or time.time() - last.seconds > _LEARNED_SECONDS:
            return None
        return last.isl, last.osl

    def _write(self) -> None:
        status, self._status = self._status, None
        log, self._log = self._log, None
        if status is not None:
            self._shown = status
        # Also between looks: Ray drops gauges that are not set again.
        if self._shown is not None:
            self._metrics.export(self._shown)
        if status is not None:
            # The policy's clock is never set; readers in other processes go by today's.
            store.write_status(replace(status, seconds=time.time()))
        if log is not None:
            store.write_events(self._app, log)

    def _room(self) -> int:
        """From the view that all applications share; read anew where nobody has lately."""
        view = self._book.view
        if view is None or self._book.view_age_seconds >= _CLUSTER_SECONDS / 2:
            view = read_gpu_view()
            self._book.see(view)
        return free_room(self._placement, view.of_kind(self._gpu))

    def _living(self) -> frozenset[str]:
        records = [one for one in read_instances() if one.app == self._app]
        alive = actor_nodes() if records else {}
        return frozenset(one.replica_id for one in records if one.actor_id in alive)


def _keep(owner: weakref.ref[Surroundings], wake: threading.Event) -> None:
    while True:
        wake.wait(_WAKE_SECONDS)
        wake.clear()
        found = owner()
        if found is None:
            return
        found.turn()
        del found
