"""The oracle: the fewest instances at each moment, chosen with the whole trace known beforehand.

1. Need. Time is cut into intervals of 10 s. From the first on, n_i is the least number that keeps
   the wait of the fluid queue (decide/fluid.py) within the slack at every second of the interval,
   given the backlog that the intervals before leave. Work is multiplied by a factor f.
2. Spans. Level k is needed where n_i >= k. A gap no longer than a start is bridged: keeping costs
   no more than starting anew. A span costs its seconds and one start.
3. Misses. The target leaves 1% of the requests to miss. Spans on top of the others are left out,
   those first that save the most instance-seconds for the work that then waits, until a share g of
   all work is given up.
4. Truth. The schedule is simulated, like any policy; instances are started a start before they
   are needed. Of the pairs (f, g) tried, those whose simulation reaches the attainment count, over
   all requests, none apart; the cheapest in GPU-hours is the oracle.

It is the best of a search, so an upper bound of the least possible: a ratio to it is at least what
is reported. It pays for its starts, and never goes below the least that the policies must keep.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil

from rayserve_par.control.decide.decision import Decision, Reason
from rayserve_par.control.decide.state import ModelState
from rayserve_par.control.instance_model.capacity import Capacity
from rayserve_par.control.simulate.request import Arrival
from rayserve_par.control.simulate.scenario import Scenario
from rayserve_par.control.simulate.simulator import Outcome, simulate
from rayserve_par.errors import RefusedError

_INTERVAL = 10
_FACTORS = (1.0, 0.95, 0.9, 1.05, 1.15, 1.3)
_LARGEST_SHARE = 0.04
_HALVINGS = 3


@dataclass(frozen=True, slots=True)
class Schedule:
    """Instances by intervals of 10 s, known beforehand; a policy for the simulator."""

    instances: tuple[int, ...]
    start_seconds: float
    name: str = "oracle"
    history_seconds: float = 1.0

    def wanted(self, seconds: float) -> int:
        """What must run or start at this time: the most that is needed until a start later."""
        first = int(seconds // _INTERVAL)
        last = int((seconds + self.start_seconds + 1e-6) // _INTERVAL)
        return max(self.instances[first : last + 1], default=self.instances[-1])

    def decide(self, state: ModelState, memory: None) -> tuple[Decision, None]:
        """As scheduled."""
        now = state.now_seconds
        following = (now // _INTERVAL + 1) * _INTERVAL
        return Decision(self.wanted(now), Reason.STATIC, following), memory


@dataclass(frozen=True, slots=True)
class _Span:
    level: int
    first: int
    last: int  # included
    cost_seconds: float
    work: float


@dataclass(frozen=True, slots=True)
class Oracle:
    """The schedule found, what came of it, and the factor and share that gave it."""

    schedule: Schedule
    outcome: Outcome
    factor: float
    share: float


def work_by_second(arrivals: Sequence[Arrival], capacity: Capacity, seconds: int) -> list[float]:
    """Instance-seconds of work that arrive in every second."""
    found = [0.0] * (seconds + 1)
    for one in arrivals:
        found[min(seconds, int(one.seconds))] += capacity.work_seconds(1, one.isl)
    return found


def needed(work: Sequence[float], slack: float, least: int) -> list[int]:
    """Step 1 of the module's docstring."""
    found, backlog = [], 0.0
    for first in range(0, len(work), _INTERVAL):
        part = work[first : first + _INTERVAL]
        number, so_far, total = float(least), backlog, backlog
        for second, one in enumerate(part, start=1):
            total += one
            number = max(number, total / (second + slack))
        # Backlog that falls to nothing within the interval leaves later seconds more to do.
        count = max(least, ceil(number - 1e-9))
        while not _holds(part, so_far, count, slack):
            count += 1
        for one in part:
            backlog = max(0.0, backlog + one - count)
        found.append(count)
    return found


def _holds(part: Sequence[float], backlog: float, count: int, slack: float) -> bool:
    for one in part:
        backlog = max(0.0, backlog + one - count)
        if backlog > slack * count + 1e-9:
            return False
    return True


def spans_of(counts: Sequence[int], work: Sequence[float], start: float, least: int) -> list[_Span]:
    """Step 2, from the lowest level up. `work` is by interval."""
    found = []
    for level in range(least + 1, max(counts, default=0) + 1):
        first = last = None
        for index, count in enumerate([*counts, 0]):
            if count < level and index < len(counts):
                continue
            ends = index == len(counts)
            if first is not None and last is not None:
                if not ends and (index - last - 1) * _INTERVAL <= start:
                    last = index
                    continue
                length = (last - first + 1) * _INTERVAL
                waits = sum(work[i] for i in range(first, last + 1) if counts[i] >= level)
                found.append(_Span(level, first, last, length + start, waits))
            first = last = index
    return found


def without(spans: Sequence[_Span], total: float, share: float) -> list[_Span]:
    """Step 3: the spans that are kept."""
    kept, left = list(spans), share * total
    while left > 0:
        tops = [
            one
            for one in kept
            if one.work <= left
            and not any(
                other.level == one.level + 1 and other.first <= one.last and other.last >= one.first
                for other in kept
            )
        ]
        if not tops:
            break
        best = max(tops, key=lambda one: one.cost_seconds / (one.work + 1e-9))
        kept.remove(best)
        left -= best.work
    return kept


def find_oracle(
    scenario: Scenario,
    arrivals: Sequence[Arrival],
    capacity: Capacity,
    *,
    least: int,
    attainment: Callable[[Outcome], float],
    wanted: float = 0.99,
    progress: Callable[[str], None] | None = None,
) -> Oracle:
    """The cheapest schedule found. Raises RefusedError where none of them attains the target."""
    seconds = ceil(scenario.duration_seconds)
    plain = work_by_second(arrivals, capacity, seconds)
    best: Oracle | None = None

    def tried(factor: float, share: float) -> bool:
        nonlocal best
        if progress is not None:
            progress(f"work x {factor:g}, {share:.1%} given up")
        schedule = _schedule([one * factor for one in plain], capacity, scenario, least, share)
        start = replace(scenario, initial=schedule.wanted(0.0), failures=())
        outcome = simulate(start, schedule, arrivals)
        if attainment(outcome) < wanted:
            return False
        if best is None or outcome.gpu_seconds < best.outcome.gpu_seconds:
            best = Oracle(schedule, outcome, factor, share)
        return True

    for factor in _FACTORS:
        if best is not None and factor > best.factor:
            continue
        if not tried(factor, 0.0):
            continue
        low, high = 0.0, _LARGEST_SHARE
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            if tried(factor, middle):
                low = middle
            else:
                high = middle
    if best is None:
        raise RefusedError(
            f"no schedule of at most {scenario.most} instances reaches {wanted:.0%} within TTFT "
            f"{scenario.ttft_limit:g} s and TPOT {1e3 * scenario.tpot_limit:g} ms. Allow more "
            "instances, or looser limits."
        )
    return best


def _schedule(
    work: Sequence[float], capacity: Capacity, scenario: Scenario, least: int, share: float
) -> Schedule:
    counts = [min(scenario.most, one) for one in needed(work, capacity.slack_seconds, least)]
    by_interval = [sum(work[i : i + _INTERVAL]) for i in range(0, len(work), _INTERVAL)]
    spans = spans_of(counts, by_interval, scenario.start_seconds, least)
    kept = without(spans, sum(work), share)
    instances = [least] * len(counts)
    for span in kept:
        for index in range(span.first, span.last + 1):
            instances[index] = max(instances[index], span.level)
    return Schedule(tuple(instances), scenario.start_seconds)
