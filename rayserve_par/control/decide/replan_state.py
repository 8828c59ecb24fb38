"""What a re-planning decision is made from, what it remembers, and what it is. Frozen values.

`ReplanState` is one look at one application; the caller reads the clock. `ReplanMemory` is kept
between looks, outside of the process that decides, so that its death changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from rayserve_par.control.decide.change_way import Step, Way
from rayserve_par.control.decide.prospect import Choice, Counting, Prospect
from rayserve_par.control.decide.trial import Expectation, Figures, Window


class Action(StrEnum):
    """What is to be done. KEEP and CANNOT: nothing."""

    KEEP = "keep"
    CHANGE = "change"
    COUNT = "count"
    FALL_BACK = "fall_back"
    BACK_OUT = "back_out"
    CANNOT = "cannot"


class Why(StrEnum):
    """The reason. Closed: each has a row in docs/replanning.md.

    BEST: no other layout is better. EXPLICIT: the user set the layout. NO_GAIN: another is better
    by less than the threshold. COST: its gain does not pay for the change. OUTAGE: the change would
    stop every instance at once. SETTLING: the cluster has just changed. TOO_SOON: so has the
    layout. ROLLING: a roll-out goes on. TRIAL: a new layout is being measured. BETTER: another
    layout wins. ROOM: another number of the same layout fits. LAST_STEP: the number that a roll-out
    ends with. LOST: the present layout fits no more. WORSE: the new layout is worse in fact.
    FAILED: it did not start. MISSING: nothing fits.
    """

    BEST = "best"
    EXPLICIT = "explicit"
    NO_GAIN = "no_gain"
    COST = "cost"
    OUTAGE = "outage"
    SETTLING = "settling"
    TOO_SOON = "too_soon"
    ROLLING = "rolling"
    TRIAL = "trial"
    BETTER = "better"
    ROOM = "room"
    LAST_STEP = "last_step"
    LOST = "lost"
    WORSE = "worse"
    FAILED = "failed"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class ReplanState:
    """One look at one application.

    `cluster` names the node groups now. `explicit`: the user set the layout. `present` is the
    deployed layout on this cluster, None where it is not known or not legal on it. `target` is how
    many instances Serve was told, `ready` how many of the present layout serve, `others` how many
    of another layout live. `failed`: Serve gave the update up. `candidates` are the planner's for
    this cluster and the workload seen, its choice first. `missing` says what is missing where an
    instance finds no place. `rate` is None where nothing is known of the load.
    """

    now_seconds: float
    cluster: str
    explicit: bool
    present: Prospect | None
    target: int
    ready: int
    others: int
    failed: bool
    candidates: tuple[Prospect, ...]
    missing: str
    counting: Counting
    rate: float | None
    isl: float
    osl: float
    by_latency: bool
    ttft_limit_seconds: float
    tpot_limit_seconds: float
    start_seconds: float
    measured: Figures | None = None

    @property
    def lost(self) -> bool:
        """Whether nothing lives, and the present layout fits nowhere."""
        return not self.living and (self.present is None or self.present.room == 0)

    @property
    def living(self) -> int:
        """Instances of any layout."""
        return self.ready + self.others

    @property
    def rolling(self) -> bool:
        """Whether instances of another layout live, or fewer serve than are wanted and fit."""
        room = self.present.room if self.present else 0
        return self.others > 0 or self.ready < min(self.target, room)


@dataclass(frozen=True, slots=True)
class Trial:
    """A new layout that is being judged against the former one.

    `window` is None until it is rolled out; `before` where nothing was measured, `former` where it
    is not known.
    """

    former: Choice | None
    before: Window | None
    expected: Expectation
    started_seconds: float
    window: Window | None = None


@dataclass(frozen=True, slots=True)
class Barred:
    """A layout that was taken back, and until when it is not tried again."""

    choice: Choice
    until_seconds: float


@dataclass(frozen=True, slots=True)
class ReplanMemory:
    """What is kept between looks.

    `counted_on` is the cluster that the number was decided for. `lost_seconds`:
    since when nothing serves and the present layout fits nowhere. `rolling_out`: a
    layout was changed, and the last step (change_way.py) is still to be made. `short_seconds`:
    since when that is all that is left, and its number finds no room. `short`: the last number
    was less than is asked for, for want of room; `room_seconds`: since when there is room for more.
    """

    cluster: str = ""
    cluster_since_seconds: float = 0.0
    lost_seconds: float | None = None
    changed_seconds: float | None = None
    counted_on: str = ""
    rolling_out: bool = False
    short_seconds: float | None = None
    short: bool = False
    room_seconds: float | None = None
    window: Window | None = None
    trial: Trial | None = None
    barred: tuple[Barred, ...] = ()

    def seen(self, state: ReplanState) -> ReplanMemory:
        """With this look's cluster and figures."""
        now = state.now_seconds
        memory = self._not_after(now)
        memory = replace(
            memory, barred=tuple(one for one in memory.barred if now < one.until_seconds)
        )
        if state.cluster != memory.cluster:
            memory = replace(memory, cluster=state.cluster, cluster_since_seconds=now)
        since = now if memory.lost_seconds is None else memory.lost_seconds
        memory = replace(memory, lost_seconds=since if state.lost else None)
        if state.rolling or state.measured is None:
            return memory
        window = (memory.window or Window(now)).after(now, state.measured)
        memory = replace(memory, window=window)
        if memory.trial is not None and memory.trial.window is not None:
            measured = memory.trial.window.after(now, state.measured)
            memory = replace(memory, trial=replace(memory.trial, window=measured))
        return memory

    def _not_after(self, now: float) -> ReplanMemory:
        """What is later than now is now: the clock was set back, and waiting begins anew."""
        trial = self.trial
        if trial is not None and trial.window is not None:
            trial = replace(trial, window=trial.window.not_after(now))
        return replace(
            self,
            cluster_since_seconds=min(self.cluster_since_seconds, now),
            lost_seconds=None if self.lost_seconds is None else min(self.lost_seconds, now),
            changed_seconds=(
                None if self.changed_seconds is None else min(self.changed_seconds, now)
            ),
            short_seconds=None if self.short_seconds is None else min(self.short_seconds, now),
            room_seconds=None if self.room_seconds is None else min(self.room_seconds, now),
            window=None if self.window is None else self.window.not_after(now),
            trial=trial,
        )

    def is_barred(self, prospect: Prospect) -> bool:
        """Whether this layout was taken back lately."""
        return any(one.choice.is_of(prospect) for one in self.barred)


@dataclass(frozen=True, slots=True)
class ReplanDecision:
    """What is to be done and why; `choice`, `way`, `step` where something is.

    `step` is the update to make now; the number of `choice` follows once the layout is rolled out.
    `gain` is a share, `note` words for people.
    """

    action: Action
    why: Why
    note: str
    choice: Choice | None = None
    way: Way | None = None
    step: Step | None = None
    gain: float | None = None
    cost_gpu_seconds: float | None = None
    predicted: Prospect | None = None

    @property
    def acts(self) -> bool:
        """Whether there is something to do."""
        return self.action not in {Action.KEEP, Action.CANNOT}

    @property
    def changes_layout(self) -> bool:
        """Whether that is another layout, not only another number."""
        return self.acts and self.action is not Action.COUNT
