"""Steps that nothing announced: what no policy that waits for a start can serve.

With l(t) the work that arrives in [t, t + 10 s) over 10 s, in instances, a step is at t where
    l(t) > 1.5 x max l(u) over u in [t - 5 starts, t - 10 s]    and    l(t) - that max >= 1
and it is put at the first second within these 10 from which on l has nine tenths of its rise, for
l looks ahead. Load that was seen within the last five starts announces itself, however short it
was. Requests that arrive within one start of a step are counted apart; the next step is looked for
after that.
Before the trace there was no load, so one that begins at full rate begins with a step; instances
that are ready at its start serve it all the same.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from rayserve_par.control.simulate.request import Arrival

_WINDOW_SECONDS = 10
_FACTOR = 1.5
_LEAST_RISE = 1.0
_RISEN = 0.9
ANNOUNCED_STARTS = 5


def steps_of(work: Sequence[float], start_seconds: float) -> tuple[float, ...]:
    """When load stepped up, in seconds; `work` is instance-seconds by the second."""
    ahead = [*work, *([0.0] * _WINDOW_SECONDS)]
    total, load = sum(ahead[:_WINDOW_SECONDS]), []
    for second in range(len(work)):
        load.append(total / _WINDOW_SECONDS)
        total += ahead[second + _WINDOW_SECONDS] - ahead[second]
    found: list[float] = []
    reach, second = int(ANNOUNCED_STARTS * start_seconds), 0
    while second < len(load):
        before = load[max(0, second - reach) : max(0, second - _WINDOW_SECONDS + 1)]
        seen = max(before, default=0.0)
        if load[second] > _FACTOR * seen and load[second] - seen >= _LEAST_RISE:
            ahead_of = load[second : second + _WINDOW_SECONDS + 1]
            enough = seen + _RISEN * (max(ahead_of) - seen)
            second += next(n for n, one in enumerate(ahead_of) if one >= enough)
            found.append(float(second))
            second += max(1, int(start_seconds))
        else:
            second += 1
    return tuple(found)


def apart(
    arrivals: Sequence[Arrival], steps: Sequence[float], start_seconds: float
) -> tuple[bool, ...]:
    """For every arrival whether it is within one start of a step."""
    found = []
    for one in arrivals:
        last = bisect_right(steps, one.seconds) - 1
        found.append(last >= 0 and one.seconds < steps[last] + start_seconds)
    return tuple(found)
