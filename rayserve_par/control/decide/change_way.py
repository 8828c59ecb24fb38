"""How running instances are exchanged for others, what that costs, and the steps that Serve takes.

m instances run, n of the candidate are wanted, k of them fit beside what runs, a start takes s:

    SURGE        new ones start in free GPUs, old ones stop when they serve     s x n x new GPUs
    ONE_BY_ONE   an old one stops, a new one starts in its place, m times       s x m x old GPUs
    ALL_AT_ONCE  all stop, then all start: nothing serves for s                 s x m x old GPUs

in GPU-seconds that are doubled or idle meanwhile. SURGE needs k >= 1, and where n < m, which Serve
reduces to n first, n old ones that carry the rate. ONE_BY_ONE needs that a new one fits where any
old one was, m >= 2, and m - 1 old ones that carry the rate. What nothing serves is changed at once.

Ray Serve 2.60 starts at most `surge + target - active` new replicas in a surge, where surge =
ceil(max_surge_percent x target / 100), and stops old ones while more than `target` run; without one
it stops max(1, floor(rolling_update_percentage x target)) less what is pending. With more wanted
than run and no free GPU a surge would wait for the missing ones for ever and stop nothing, so the
first step keeps the number that runs, and the second one sets n.

ONE_BY_ONE is a surge of one about m - 1: one too many runs, so one stops, and a new one waits for
its place. So m - 1 run throughout, and m - 1 are new when the second step sets n. Without a surge
a controller that starts in the middle stops what is too many by its count, in which old ones that
drain and new ones that wait count as well (decision 0025). Where a scaling policy sets the number,
it cannot be m - 1, and Serve's way without a surge is what is left.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from rayserve_par.control.decide.prospect import Prospect

# Any share that makes floor(share x target) = 1; Serve then replaces one after the other.
_ONE_BY_ONE_SHARE = 1e-6
_SERVES_OWN_SHARE = 0.2


class Way(StrEnum):
    """How running instances are exchanged."""

    SURGE = "surge"
    ONE_BY_ONE = "one_by_one"
    ALL_AT_ONCE = "all_at_once"


@dataclass(frozen=True, slots=True)
class Step:
    """One update of the deployment: Serve's number of replicas and how it replaces them."""

    instances: int
    max_surge_percent: int
    rolling_update_percentage: float


def way_of(
    present: Prospect | None, running: int, candidate: Prospect, wanted: int, rate: float | None
) -> Way:
    """The gentlest way that is possible."""
    if not running or present is None:
        return Way.ALL_AT_ONCE
    if candidate.beside and (wanted >= running or _carries(present, wanted, rate)):
        return Way.SURGE
    if candidate.in_place and running > 1 and _carries(present, running - 1, rate):
        return Way.ONE_BY_ONE
    return Way.ALL_AT_ONCE


def cost_gpu_seconds(
    way: Way,
    present: Prospect | None,
    running: int,
    candidate: Prospect,
    wanted: int,
    start_seconds: float,
) -> float:
    """GPUs that are doubled or idle meanwhile, times seconds."""
    if way is Way.SURGE:
        return start_seconds * wanted * candidate.gpus_taken
    return start_seconds * running * (present.gpus_taken if present else 0.0)


def first_step(
    way: Way, running: int, candidate: Prospect, wanted: int, *, sets_number: bool
) -> Step:
    """The update that exchanges the layout; without `sets_number` Serve's number stays."""
    if way is Way.ALL_AT_ONCE:
        return Step(wanted, 0, 1.0)
    if way is Way.ONE_BY_ONE:
        if not sets_number:
            return Step(running, 0, _ONE_BY_ONE_SHARE)
        return Step(running - 1, _surge_percent(1, running - 1), _ONE_BY_ONE_SHARE)
    target = wanted if candidate.beside > wanted - running else running
    surge = min(target, candidate.beside - max(0, target - running))
    return Step(target, _surge_percent(surge, target), _ONE_BY_ONE_SHARE)


def usual_step(instances: int) -> Step:
    """The update that sets a number, and lets Serve replace as it does by itself."""
    return Step(instances, 0, _SERVES_OWN_SHARE)


def _surge_percent(surge: int, target: int) -> int:
    return max(1, 100 * surge // target)


def _carries(present: Prospect, instances: int, rate: float | None) -> bool:
    return rate is None or instances * present.requests_per_second >= rate
