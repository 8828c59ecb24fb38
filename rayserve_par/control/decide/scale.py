"""The scaling policy: how many instances hold the target through what comes within a start.

1. Work. Arrivals become instance-seconds by the planner's model, corrected live (capacity.py).
2. Need. The look-back, detrended (demand.py), flows through n instances (fluid.py). The need is
   the fewest whose late work is within what the target leaves to miss: bursts count as they came.
   Where they are so few and large that the look-back does not even tell their mean to within 10%,
   it is as long as that takes, up to `rare_starts`: less would forget the last large one.
   Where the look-back begins never moves back: when burstiness falls and rises again, load that
   was left out stays so, or instances would be given up and wanted again for the same arrivals.
   The more bursty load is, the less a falling trend counts: the way down from a peak to a trough
   is a straight line too, and it says nothing about the next peak.
3. Rise. Load that the latest seconds show beyond chance is served at once, as it would be by
   mean rate: a start takes long enough. Where load is bursty, only what lasts a third of a
   start is followed: a burst that is gone before an instance is ready is not worth one.
4. Backlog. With load l, moved along its trend, on n ready instances, m starting, and r seconds
   until these are ready, instance i has a start S from now a queue of
       q_i(S) = q_i + r (l / n - 1) + (S - r) (l / (n + m) - 1)     seconds of work
   or, where it is longer than S and the router passes it by, q_i + r (l / n - 1) - (S - r). It is
   to be gone in S / 2, which takes min(1, q_i(S) / (S / 2)) of the instance; as much is wanted on
   top; less of it the more bursty load is, for the same reason. Held requests count as work of
   this second.
5. Up at once to max(2, 3) + 4. Down, not counting who has a queue of half the slack now, to what
   would hold `margin` more, and at least three standard errors more, over the whole look-back. It
   is as many starts long as load is bursty (settings.py), so what is given up was not needed for
   as long, and a start would have cost as much. Draining is the caller's. Never soon
   after a scale-up that the load of the time still justifies (settled.py).
6. Limits: min, max, and what the free GPUs hold.

Pure: the memory that is passed back in is the correction, when the last request came,
the last scale-up, and where the look-back began.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, inf

from rayserve_par.control.decide.correction import NO_CORRECTION, Correction, predicted_seconds
from rayserve_par.control.decide.decision import Decision, Option, Reason
from rayserve_par.control.decide.demand import TREND_SECONDS, Demand, demand_of
from rayserve_par.control.decide.fluid import least_instances, least_with_margin, wait_at
from rayserve_par.control.decide.settings import ScaleSettings
from rayserve_par.control.decide.settled import NO_FLOOR, QUEUE_SHARE, Floor
from rayserve_par.control.decide.state import ModelState, Phase
from rayserve_par.control.instance_model.capacity import Capacity, InstanceModel

_LEAST_LOOK_BACK_SECONDS = 30.0
_NOISE_MARGIN = 3.0
_OPTIONS = 3
_LOAD_SECONDS = 60.0
_CLEAR_SHARE = 0.5
_ROUND_DOWN = 0.05
_BURSTY_WINDOW = 1 / 3
_UNSETTLED = 0.75
_ALONE_STARTS = 2
_KNOWN_ERROR = 0.1


@dataclass(frozen=True, slots=True)
class ScaleMemory:
    """What the policy remembers: its correction, the last request, the last scale-up.

    `window_start_seconds` is where the look-back began at the last look.
    """

    correction: Correction = NO_CORRECTION
    last_request_seconds: float = -inf
    floor: Floor = NO_FLOOR
    window_start_seconds: float = -inf


@dataclass(frozen=True, slots=True)
class _Need:
    """Instances by cause, before limits."""

    replayed: int
    sustained: float
    busy: float
    kept: int

    @property
    def load(self) -> int:
        return max(self.replayed, _whole(self.sustained))

    @property
    def up(self) -> int:
        return _whole(max(self.replayed, self.sustained) + self.busy)

    @property
    def down(self) -> int:
        return max(self.kept, self.up)


def _whole(instances: float) -> int:
    return ceil(instances - _ROUND_DOWN)


def _busy_with_queues(state: ModelState, demand: Demand, load: float, slope: float) -> float:
    """Instances that a start from now are still busy with what waits; step 4."""
    ready = [one for one in state.instances if one.phase is Phase.READY]
    starting = [one for one in state.instances if one.phase is Phase.STARTING]
    start = max(1.0, state.start_seconds)
    if not ready:
        return 0.0
    left = start
    if starting:
        remaining = [max(0.0, (one.ready_seconds or 0.0) - state.now_seconds) for one in starting]
        left = min(start, sum(remaining) / len(remaining))
    then = load + slope * (left + start) / 2
    until = left * ((load + slope * left / 2) / len(ready) - 1)
    shared = (start - left) * (then / (len(ready) + len(starting)) - 1)
    busy = 0.0
    for one in ready:
        queue = one.waiting * demand.each + until
        # The router passes by who has a long queue, so that one only empties it.
        queue += shared if queue < start else left - start
        busy += min(1.0, max(0.0, queue) / (start * _CLEAR_SHARE))
    return busy


@dataclass(frozen=True, slots=True)
class ScalePolicy:
    """Holds TTFT and TPOT with few instances. See the module's docstring."""

    settings: ScaleSettings
    model: InstanceModel
    start_seconds_hint: float = 60.0
    name: str = "rayserve_par"

    @property
    def history_seconds(self) -> float:
        """As far back as a trend or the longest look-back goes."""
        look_back = self.settings.rare_starts * self.start_seconds_hint
        return max(look_back, float(TREND_SECONDS[-1]))

    def decide(self, state: ModelState, memory: ScaleMemory | None) -> tuple[Decision, ScaleMemory]:
        """How many instances are wanted now, and why."""
        before = memory or ScaleMemory()
        after = self._learned(state, before)
        slower = after.correction.applied(self.settings.correct_from)
        capacity = self.model.capacity(state.load.isl, state.load.osl, slower)
        demand = demand_of(state.load, capacity)
        burstiness = demand.burstiness(TREND_SECONDS[-1])
        bursty = self._bursty_share(burstiness)
        known = demand.known_seconds(burstiness, _KNOWN_ERROR)
        back = self._look_back(state, bursty, known)
        first = max(after.window_start_seconds, state.now_seconds - back)
        look_back = round(state.now_seconds - first)
        slope = demand.slope(self.settings.trend_fit)
        slope *= 1 - bursty if slope < 0 else 1
        work = self._expected(state, demand, look_back, slope)
        need = self._need(state, demand, work, capacity, slope, bursty)
        wanted, reason = self._wanted(state, need, after)
        recent = work[-int(_LOAD_SECONDS) :]
        load = sum(recent) / max(1, len(recent))
        noise, settle = demand.noise(len(recent)), self.settings.settle_seconds
        floor = after.floor.now(state.now_seconds, load, noise, settle)
        spare = 0
        if reason is Reason.SHRINK:
            # Too little may be known to give up any.
            settled = 0 if bursty > _UNSETTLED else floor.instances
            known = len(demand.work) >= look_back
            kept = min(settled if known else state.target, state.target)
            if kept > wanted:
                spare = kept - wanted if known else 0
                wanted, reason = kept, Reason.HOLD
        elif wanted > state.target:
            alone = state.now_seconds - floor.since_seconds > _ALONE_STARTS * state.start_seconds
            share = QUEUE_SHARE if alone and wanted - state.target <= QUEUE_SHARE else 0
            floor = floor.raised(min(wanted, need.load + share), load, state.now_seconds)
        after = replace(after, floor=floor, window_start_seconds=first)
        decision = Decision(
            wanted=wanted,
            reason=reason,
            next_look_seconds=state.now_seconds + self.settings.look_seconds,
            options=self._options(state, work, capacity, wanted),
            needed=need.up,
            note=(
                f"look-back {look_back} s, replay {need.replayed}, sustained {need.sustained:.1f}, "
                f"queues {need.busy:.1f}, step times x {slower:.2f}"
            ),
            spare=spare,
        )
        return decision, after

    def _learned(self, state: ModelState, before: ScaleMemory) -> ScaleMemory:
        load, measured = state.load, state.measured
        correction = before.correction.after(
            state.now_seconds, measured, predicted_seconds(measured, self.model)
        )
        seen = before.last_request_seconds
        if state.ongoing or load.rate(self.settings.look_seconds) > 0 or seen == -inf:
            seen = state.now_seconds
        return replace(before, correction=correction, last_request_seconds=seen)

    def _bursty_share(self, burstiness: float) -> float:
        """0 where arrivals are even, 1 where they are very uneven."""
        settings = self.settings
        span = settings.bursty_burstiness - settings.calm_burstiness
        found = burstiness - settings.calm_burstiness
        return min(1.0, max(0.0, found / span)) if span else float(found > 0)

    def _look_back(self, state: ModelState, bursty: float, known: float) -> int:
        settings = self.settings
        starts = settings.calm_starts + bursty * (settings.bursty_starts - settings.calm_starts)
        found = max(_LEAST_LOOK_BACK_SECONDS, starts * state.start_seconds)
        longest = max(found, settings.rare_starts * state.start_seconds)
        return round(found + bursty * max(0.0, min(known, longest) - found))

    def _expected(
        self, state: ModelState, demand: Demand, look_back: int, slope: float
    ) -> list[float]:
        ahead = state.start_seconds + self.settings.look_seconds
        work = demand.detrended(look_back, slope, ahead)
        if state.held and work:
            work[-1] += state.held * demand.each
        return work

    def _need(
        self,
        state: ModelState,
        demand: Demand,
        work: list[float],
        capacity: Capacity,
        slope: float,
        bursty: float,
    ) -> _Need:
        settings = self.settings
        may_miss, usable = (1 - settings.attainment) / 2, settings.usable_share
        flow = (1.0, capacity.slack_seconds, may_miss, usable)
        replayed = least_instances(work, *flow)
        shortest = bursty * state.start_seconds * _BURSTY_WINDOW
        sustained = demand.sustained(settings.certainty, shortest) / usable
        margin = max(settings.margin, _NOISE_MARGIN * demand.noise(len(work)))
        busy = _busy_with_queues(state, demand, sustained * usable, slope) * (1 - bursty)
        late = sum(
            one.phase is Phase.READY and one.waiting * demand.each > capacity.slack_seconds / 2
            for one in state.instances
        )
        kept = least_with_margin(work, margin, replayed, *flow)
        return _Need(replayed, sustained, busy, kept + late)

    def _wanted(self, state: ModelState, need: _Need, memory: ScaleMemory) -> tuple[int, Reason]:
        settings, target = self.settings, state.target
        if settings.bounds.least == 0:
            idle = self._idle(state, memory)
            if idle is not None:
                return idle
        least = max(1, settings.bounds.least)
        up, down = max(least, need.up), max(least, need.down)
        if up > target:
            return self._up(state, need, up)
        if down < target:
            wanted = settings.bounds.clamp(down)
            return wanted, Reason.AT_MAX if wanted < down else Reason.SHRINK
        if target > settings.bounds.most:
            return settings.bounds.most, Reason.AT_MAX
        if up < target:
            return target, Reason.HOLD
        at_min = target == settings.bounds.least and need.up <= target
        return target, Reason.AT_MIN if at_min and need.up < target else Reason.STEADY

    def _up(self, state: ModelState, need: _Need, up: int) -> tuple[int, Reason]:
        target, most = state.target, self.settings.bounds.most
        wanted = min(up, most)
        if state.room is not None and wanted > target + state.room:
            return max(min(target, most), target + state.room), Reason.NO_ROOM
        if wanted < up:
            return wanted, Reason.AT_MAX
        if target == 0:
            return wanted, Reason.FROM_ZERO
        if need.up <= target:
            return wanted, Reason.AT_MIN
        backlog = need.load <= target
        return wanted, Reason.BACKLOG if backlog else Reason.FORECAST

    def _idle(self, state: ModelState, memory: ScaleMemory) -> tuple[int, Reason] | None:
        """Zero, where that is wanted or stays; None where instances are needed."""
        after = self.settings.to_zero_seconds
        quiet = state.now_seconds - memory.last_request_seconds
        if state.ongoing:
            return None
        if state.target == 0:
            return (0, Reason.STEADY) if quiet > 0 else None
        if after is not None and quiet >= after:
            return 0, Reason.TO_ZERO
        return None

    def _options(
        self, state: ModelState, work: list[float], capacity: Capacity, wanted: int
    ) -> tuple[Option, ...]:
        """The number wanted and its neighbours, with what the model predicts."""
        if not work:
            return ()
        load, mean = state.load, sum(work) / len(work)
        rate = mean * capacity.requests_per_second
        share, found = 1 - self.settings.attainment, []
        for instances in range(max(1, wanted - 1), max(1, wanted - 1) + _OPTIONS):
            wait = wait_at(work, instances * self.settings.usable_share, 1.0, share)
            tpot = self.model.tpot(rate / instances, load.isl, load.osl)
            found.append(
                Option(
                    instances=instances,
                    ttft_seconds=capacity.ttft_seconds + wait,
                    tpot_seconds=tpot,
                    utilisation=mean / instances,
                    meets=wait <= capacity.slack_seconds,
                )
            )
        return tuple(found)
