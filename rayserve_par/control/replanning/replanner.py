"""Looks at every application of ours, decides, carries out what an operator allows, writes it down.

Nothing is kept in the process: what was decided is in Ray's key-value store before it is carried
out, so that the next process goes on where this one ended.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from rayserve_par.control.config_file import IMPORT_PATH
from rayserve_par.control.decide.prospect import Counting
from rayserve_par.control.decide.replan import replan
from rayserve_par.control.decide.replan_events import ReplanEvent
from rayserve_par.control.decide.replan_settings import ReplanSettings
from rayserve_par.control.decide.replan_state import ReplanDecision, ReplanState
from rayserve_par.control.live import store
from rayserve_par.control.live.records import Mode, Override
from rayserve_par.control.observe import living_instances
from rayserve_par.control.replanning.act import carry_out
from rayserve_par.control.replanning.candidates import Room
from rayserve_par.control.replanning.document import number_asked
from rayserve_par.control.replanning.look import Seen, counting_of, state_of
from rayserve_par.control.replanning.record import ReplanRecord
from rayserve_par.control.serve_client import AppState, ServeClient
from rayserve_par.errors import RefusedError
from rayserve_par.serving.cluster_view import live_cluster, live_nodes, nodes_of_kind
from rayserve_par.serving.config import parse_args
from rayserve_par.serving.held_groups import groups_of

logger = logging.getLogger("ray.serve")

_TRIES = 3
_OVERTAKEN = (
    "another re-planner has written down a decision during this look: a controller and `replan "
    "--apply`, or two of either; look again"
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one look at one application led to; `problem` says why nothing could be decided.

    `event` is the decision as it was written to the log, None where it was not.
    """

    app: str
    mode: Mode
    decision: ReplanDecision | None
    state: ReplanState | None
    carried_out: bool = False
    problem: str = ""
    model: str = ""
    event: ReplanEvent | None = None


@dataclass(slots=True)
class Replanner:
    """`dry_run` writes decisions down and carries none out. `clock` gives Unix seconds.

    `tell` is given each outcome at once, also where the look then fails at another application.
    """

    client: ServeClient
    settings: ReplanSettings
    clock: Callable[[], float]
    dry_run: bool = False
    tell: Callable[[Outcome], None] = lambda _: None

    def look(self, only: str | None = None, *, keep: bool = True) -> tuple[Outcome, ...]:
        """One look at all applications of ours, or at `only`; without `keep` nothing is written.

        Raises:
            RefusedError: the cluster has no GPU, or one of a kind that is not known.
        """
        apps = self._apps(only)
        if not apps:
            return ()
        seen = self._seen()
        return tuple(self._told(app, seen, keep) for app in apps)

    def _apps(self, only: str | None) -> list[AppState]:
        return [
            app
            for app in self.client.apps()
            if app.config.get("import_path") == IMPORT_PATH and only in {None, app.name}
        ]

    def _seen(self) -> Seen:
        return Seen(
            now_seconds=self.clock(),
            cluster=live_cluster(),
            room=Room((), (), nodes_of_kind),
            instances=living_instances(),
            statuses=store.read_statuses(),
        )

    def _told(self, app: AppState, seen: Seen, keep: bool) -> Outcome:
        outcome = self._look_at(app, seen, keep)
        for _ in range(_TRIES - 1):
            if outcome.problem != _OVERTAKEN:
                break
            # What it did is in Serve and in Ray by now, and counts.
            for now in self._apps(app.name):
                outcome = self._look_at(now, self._seen(), keep)
        self.tell(outcome)
        return outcome

    def _look_at(self, app: AppState, seen: Seen, keep: bool) -> Outcome:
        override = store.read_override(app.name)
        mode = _mode(override, seen.now_seconds, self.dry_run)
        given = app.config.get("args") or {}
        found = store.read_replan(app.name)
        record = ReplanRecord.from_object(found).for_config(given)
        try:
            args = parse_args(given, app.name)
            asked = number_asked(store.read_number(app.name), given)
            if keep and record.undone is not None and mode is Mode.ACTING:
                record = self._finish(app.name, record, counting_of(args, asked))
                last = record.log.events[-1] if record.log.events else None
                return Outcome(
                    app.name,
                    mode,
                    record.latest,
                    None,
                    carried_out=True,
                    model=args.public_name,
                    event=last if last and last.decision == record.latest else None,
                )
            room = Room(tuple(live_nodes()), groups_of(app.name), nodes_of_kind)
            state = state_of(replace(seen, room=room, asked=asked), app, args, record)
            if state is None:
                return Outcome(app.name, mode, None, None, problem="no instance has started yet")
            # To plan takes up to seconds, in which `replan --apply` or a controller may have acted.
            if keep and store.read_replan(app.name) != found:
                return Outcome(app.name, mode, None, None, problem=_OVERTAKEN)
            outcome = self._decide(app.name, mode, state, record, keep)
            return replace(outcome, model=args.public_name)
        except RefusedError as refusal:
            return Outcome(app.name, mode, None, None, problem=str(refusal))

    def _decide(
        self, app: str, mode: Mode, state: ReplanState, record: ReplanRecord, keep: bool
    ) -> Outcome:
        decision, memory = replan(state, record.memory, self.settings)
        acts = decision.acts and mode is Mode.ACTING
        if decision.acts and not acts:
            # What is only advised has not happened: nothing but the look itself is remembered.
            memory = record.memory.seen(state)
        if not keep:
            return Outcome(app, mode, decision, state)
        known = record.known
        if state.present is not None and state.ready:
            known = state.present.choice(state.ready)
        log = record.log.after(app, state, memory, decision, carried_out=acts)
        event = log.events[-1] if log.counted != record.log.counted else None
        if event is not None:
            logger.info(
                "Re-planning %s (%s): %s, %s: %s",
                app, mode, decision.action, decision.why, decision.note,
            )  # fmt: skip
        record = ReplanRecord(
            config=record.config,
            seconds=state.now_seconds,
            memory=memory,
            log=log,
            known=known,
            latest=decision,
            undone=decision if acts else None,
            mode=mode,
        )
        store.write_replan(app, record.as_object())
        if acts:
            self._finish(app, record, state.counting)
        return Outcome(app, mode, decision, state, carried_out=acts, event=event)

    def _finish(self, app: str, record: ReplanRecord, counting: Counting) -> ReplanRecord:
        assert record.undone is not None, "only what is undone is finished"
        carry_out(self.client, app, record.undone, counting)
        done = replace(record, undone=None)
        store.write_replan(app, done.as_object())
        return done


def _mode(override: Override, now_seconds: float, dry_run: bool) -> Mode:
    """An operator's number of instances is obeyed as a pause: a new layout would change it."""
    if override.holds(now_seconds):
        if override.paused:
            return Mode.PAUSED
        if override.instances is not None:
            return Mode.OVERRIDDEN
        dry_run = dry_run or override.dry_run
    return Mode.DRY_RUN if dry_run else Mode.ACTING
