"""Load as work that flows through n instances: what a burst needs, not only its mean.

Work of bin j: w_j instance-seconds. With n instances of which a share h may be used,

    backlog_j = max(0, backlog_(j-1) + w_j - n x h x bin)          instance-seconds
    wait_j    = backlog_j / (n x h)                                seconds, what the bin's last
                                                                   request waits

n holds if the work whose wait is above the slack is at most the share that may miss. The recursion
sees bursts as they were: no distribution of arrivals is assumed, and a burst shorter than the slack
costs nothing. Source: Lindley's recursion of a queue's work, in bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil


def missed_share(
    work: Sequence[float], instances: float, bin_seconds: float, slack_seconds: float
) -> float:
    """Share of the work that waits longer than the slack; `instances` may be a fraction."""
    served, allowed = instances * bin_seconds, instances * slack_seconds
    backlog = missed = total = 0.0
    for one in work:
        backlog += one - served
        if backlog < 0.0:
            backlog = 0.0
        elif backlog > allowed:
            missed += one
        total += one
    return missed / total if total else 0.0


def least_instances(
    work: Sequence[float],
    bin_seconds: float,
    slack_seconds: float,
    may_miss: float,
    usable_share: float,
) -> int:
    """The fewest instances that hold; 0 where there is no work."""
    if max(work, default=0.0) <= 0.0:
        return 0
    most = max(1, ceil(max(work) / bin_seconds / usable_share))
    return _least(work, (1, most), bin_seconds, slack_seconds, may_miss, usable_share)


def least_with_margin(
    work: Sequence[float],
    margin: float,
    least: int,
    bin_seconds: float,
    slack_seconds: float,
    may_miss: float,
    usable_share: float,
) -> int:
    """The fewest that hold (1 + margin) x work, where `least` is the fewest that hold the work.

    What flows is proportional: (1 + margin) x least hold as much more work, and fewer than `least`
    cannot. So little is left to search.
    """
    raised = [one * (1 + margin) for one in work]
    # One more than that, for what rounding may add.
    between = least, ceil(least * (1 + margin)) + 1 if least else 0
    return _least(raised, between, bin_seconds, slack_seconds, may_miss, usable_share)


def _least(
    work: Sequence[float],
    between: tuple[int, int],
    bin_seconds: float,
    slack_seconds: float,
    may_miss: float,
    usable_share: float,
) -> int:
    """The fewest between two numbers, both included, of which the higher one holds."""
    low, high = between
    while low < high:
        middle = (low + high) // 2
        if missed_share(work, middle * usable_share, bin_seconds, slack_seconds) <= may_miss:
            high = middle
        else:
            low = middle + 1
    return low


def wait_at(work: Sequence[float], instances: float, bin_seconds: float, may_miss: float) -> float:
    """Seconds that all work but a share of `may_miss` waits at most."""
    backlog, waits, total = 0.0, [], 0.0
    for one in work:
        backlog = max(0.0, backlog + one - instances * bin_seconds)
        total += one
        if one > 0.0 and backlog > 0.0:
            waits.append((backlog / instances, one))
    left = may_miss * total
    for wait, one in sorted(waits, reverse=True):
        left -= one
        if left < 0.0:
            return wait
    return 0.0
