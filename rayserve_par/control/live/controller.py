"""The live controller of one application: looks at Serve, asks the policy, says what became of it.

Runs inside Ray Serve's controller, several times a second; between looks it only repeats its
number. At a look: reports -> arrivals by the second, totals, start times -> ModelState -> the same
ScalePolicy as the simulator's -> the operator's wish -> number, status, events.

Times are Unix seconds that only go forward: the clock at the begin plus what the steady clock has
counted since, so that a clock that is set does not move decisions. Whatever fails, the number that
there is stays, and the status says so. All that is remembered is learned anew after a restart of
Serve's controller; until it reaches back far enough nothing is scaled down (decide/scale.py).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from rayserve_par.control.decide.decision import Decision
from rayserve_par.control.decide.events import EventLog
from rayserve_par.control.decide.scale import ScaleMemory, ScalePolicy
from rayserve_par.control.decide.state import ModelState
from rayserve_par.control.live.ask import answered, ask_of
from rayserve_par.control.live.book import Book
from rayserve_par.control.live.carried_out import carry_out
from rayserve_par.control.live.history import ArrivalSeries
from rayserve_par.control.live.records import NO_OVERRIDE, ControlStatus
from rayserve_par.control.live.settings import LiveSettings
from rayserve_par.control.live.starts import StartTimes
from rayserve_par.control.live.state_of import model_state
from rayserve_par.control.live.status_of import control_status, failure_status
from rayserve_par.control.live.surroundings import Around
from rayserve_par.control.live.totals import Totals
from rayserve_par.control.live.view import Freshness, ServeView

logger = logging.getLogger("ray.serve")

_SILENT_LOOKS = 3
_LEAST_SILENT_SECONDS = 6.0
_KEPT_EVENTS = 200
# An instance that has counted for about as long as we look, or less, came after us: what it has
# counted is new. Ages are compared, since clocks need not agree.
_YOUNG_SECONDS = 2.0

Post = Callable[[ControlStatus, dict[str, Any] | None], None]


class LiveController:
    """`clock` gives Unix seconds that only go forward, `watch` seconds to time a look with.

    `book` is the one of all applications on this controller; None where it is alone.
    """

    def __init__(
        self,
        settings: LiveSettings,
        *,
        clock: Callable[[], float],
        watch: Callable[[], float],
        book: Book | None = None,
    ) -> None:
        self.settings, self._book = settings, book
        self._clock, self._watch = clock, watch
        self._policy = ScalePolicy(
            settings.scale, settings.instance_model(), start_seconds_hint=settings.start_seconds
        )
        self._memory: ScaleMemory | None = None
        self._series = ArrivalSeries(round(self._policy.history_seconds))
        self._totals = Totals(settings.isl, settings.osl)
        self._starts = StartTimes(settings.start_seconds)
        self._freshness = Freshness()
        self._log = EventLog(_KEPT_EVENTS)
        self._next_look = self._last_look = float("-inf")
        self._number: int | None = None
        self._begun: float | None = None
        self._ran: set[str] = set()
        self._failures = 0

    def number(
        self,
        app: str,
        target: int,
        view: Callable[[], ServeView],
        around: Callable[[], Around],
        post: Post,
    ) -> int:
        """How many instances of `app` Serve is to aim at; `target` is what it aims at now."""
        now = self._clock()
        if now < self._next_look:
            return target if self._number is None else self._number
        self._next_look = now + self.settings.scale.look_seconds
        begun = self._watch()
        try:
            self._number = self._look(view(), around(), now, begun, post)
        except Exception as error:
            self._failures += 1
            self._number = None
            logger.exception("A decision failed; the number of instances stays.")
            failed = failure_status(
                self.settings,
                app,
                target,
                now_seconds=now,
                failures=self._failures,
                error=error,
            )
            post(failed, None)
            return target
        return self._number

    def _look(self, view: ServeView, around: Around, now: float, begun: float, post: Post) -> int:
        state, silent, ages = self._state(view, around, now)
        override = around.override if around.override.holds(now) else NO_OVERRIDE
        acting = not self.settings.dry_run and override == NO_OVERRIDE
        decision, self._memory = self._decided(state, view, acting=acting)
        self._next_look = decision.next_look_seconds
        done = carry_out(
            decision,
            override=override,
            dry_run=self.settings.dry_run,
            target=view.target,
            bounds=self.settings.scale.bounds,
            silent=silent,
            overdue=tuple(name for name in silent if ages[name] > self._overdue_seconds),
        )
        self._starts.told(now, done.number)
        if self._book is not None:
            self._book.told(view.app, done.number)
        log = self._log.after(self.settings.model, self._policy.name, state, done.decision)
        changed, self._log = log != self._log, log
        status = control_status(
            self.settings,
            view,
            state,
            done,
            ages=ages,
            correction=self._memory.correction.factor,
            decision_seconds=self._watch() - begun,
            problems=self._problems(around),
        )
        post(status, _log_object(log) if changed else None)
        self._last_look = now
        return done.number

    def _decided(
        self, state: ModelState, view: ServeView, *, acting: bool
    ) -> tuple[Decision, ScaleMemory]:
        """The policy's decision, within what the book of all applications gives."""
        if self._book is None:
            return self._policy.decide(state, self._memory)
        free = self._policy.decide(replace(state, room=None), self._memory)
        asked = ask_of(self.settings, view, free[0], frozenset(self._ran), acting=acting)
        answer = self._book.ask(asked)
        if answer is None:
            return self._policy.decide(state, self._memory)
        if free[0].wanted > view.target + answer.given:
            limited = replace(state, room=answer.given)
            decision, memory = self._policy.decide(limited, self._memory)
            return answered(decision, answer, view.target), memory
        return answered(free[0], answer, view.target), free[1]

    def _state(
        self, view: ServeView, around: Around, now: float
    ) -> tuple[ModelState, tuple[str, ...], dict[str, float]]:
        """The policy's state, the instances that do not report, and the ages of reports."""
        self._series.see(now)
        if around.learned is not None:
            self._totals.begin_with(*around.learned)
        self._ran = {*(name for name in self._ran if name in around.living), *view.running}
        self._begun = now if self._begun is None else self._begun
        self._starts.look(now, view.target, view.running)
        ages = self._freshness.look(view, now)
        silent = tuple(
            name
            for name in view.running
            if name not in view.reports or ages[name] > self._overdue_seconds
        )
        latest = {name: one.latest for name, one in view.reports.items()}
        young = {
            name
            for name, one in latest.items()
            if one.second - one.begun <= now - self._begun + _YOUNG_SECONDS
        }
        for name, report in view.reports.items():
            self._series.add(name, report.arrivals, now, young=name in young)
        since = self._totals.since(latest, young)
        self._add_shed(since.shed, len(view.running), now)
        reporting = [name for name in view.reports if name not in silent]
        load = self._series.history(now, reporting, self._totals.isl, self._totals.osl)
        state = model_state(
            view,
            now_seconds=now,
            load=load,
            measured=since.measured,
            start_seconds=self._starts.seconds,
            expected=self._starts.expected(now),
            draining=around.draining(self._ran, view.running),
            room=around.room,
        )
        return state, silent, ages

    @property
    def _overdue_seconds(self) -> float:
        """The age from which a report, or the silence of a new instance, is too old."""
        return max(_LEAST_SILENT_SECONDS, _SILENT_LOOKS * self.settings.scale.look_seconds)

    def _add_shed(self, shed: float, instances: int, now: float) -> None:
        """Requests that found no room are load as well; with several instances the front asks two,
        so each refusal is half a request."""
        if shed > 0 and self._last_look > 0:
            requests = shed / min(2, max(1, instances))
            tokens = requests * self._totals.isl
            self._series.add_evenly(requests, tokens, self._last_look, now)

    def _problems(self, around: Around) -> tuple[str, ...]:
        found = [] if around.problem is None else [around.problem]
        if self._failures:
            found.append(f"{self._failures} decisions have failed since the policy began.")
        return tuple(found)


def _log_object(log: EventLog) -> dict[str, Any]:
    return {"counted": log.counted, "events": [one.as_object() for one in log.events]}
