"""A layout as the re-planner weighs it: what it would do for the workload, and what fits where.

Instances are counted as the configuration says (`Counting`):

    FIXED   n = min(number, room)
    FIT     n = room
    RATE    n = min(room, ceil(rate / requests per second of an instance))
    POLICY  as RATE between the scaling policy's limits; only a prediction, the policy decides

The worth of a candidate over the present layout is a share g, the larger of what holds:

    limits    candidate keeps TTFT and TPOT, present breaks one by a factor e     g = e - 1
    LATENCY   TPOT of one stream                                g = present / candidate - 1
    FIT       requests per second of all instances              g = candidate / present - 1
    FIXED     requests per second and GPU                       g = candidate / present - 1
    RATE, POLICY   what is carried of the rate; where equal, GPUs: g = present / candidate - 1

A candidate that breaks a limit which the present layout keeps has g = -1.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import ceil

from rayserve_par.planning.layout import Layout


class CountBy(StrEnum):
    """Who says how many instances there are."""

    FIXED = "fixed"
    FIT = "fit"
    RATE = "rate"
    POLICY = "policy"


@dataclass(frozen=True, slots=True)
class Counting:
    """How instances are counted. `number` is FIXED's, `least` and `most` are POLICY's."""

    by: CountBy
    number: int = 1
    least: int = 1
    most: int = 1


@dataclass(frozen=True, slots=True)
class Choice:
    """A layout with a number of instances, as a deployment is told.

    `node_group` is the shape of the nodes, such as "8xH200".
    """

    layout: Layout
    across_nodes: bool
    node_group: str
    instances: int

    @property
    def label(self) -> str:
        """Such as "2 x TP2PP2 across nodes"."""
        across = " across nodes" if self.across_nodes else ""
        return f"{self.instances} x {self.layout.label}{across}"

    def is_of(self, prospect: Prospect) -> bool:
        """Whether it is this layout."""
        mine = (self.layout, self.across_nodes, self.node_group)
        return mine == (prospect.layout, prospect.across_nodes, prospect.node_group)


@dataclass(frozen=True, slots=True)
class Prospect:
    """One layout on the node group that it would run on, with the planner's prediction.

    gpus_taken: GPUs of an instance, with those of its nodes that nothing else can use.
    room: instances that fit once the application's own are gone; beside: in what is free now.
    in_place: whether one fits where any single one of the present instances is, once it is gone.
    requests_per_second, ttft_seconds, tpot_seconds: of one full instance within the limits.
    excess: the larger share of a limit that is used; above 1 it breaks that limit.
    """

    layout: Layout
    node_group: str
    across_nodes: bool
    gpus_taken: float
    room: int
    beside: int
    in_place: bool
    requests_per_second: float
    ttft_seconds: float
    tpot_seconds: float
    excess: float

    def same_as(self, other: Prospect) -> bool:
        """Whether both are the same layout on the same kind of nodes."""
        mine = (self.layout, self.across_nodes, self.node_group)
        return mine == (other.layout, other.across_nodes, other.node_group)

    @property
    def label(self) -> str:
        """Such as "TP2PP2 across nodes"."""
        across = " across nodes" if self.across_nodes else ""
        return f"{self.layout.label}{across}"

    def choice(self, instances: int) -> Choice:
        """This layout with so many instances."""
        return Choice(self.layout, self.across_nodes, self.node_group, instances)

    def count(self, counting: Counting, rate: float | None) -> int:
        """Instances to run, 0 where none fits; `rate` in requests per second."""
        return min(self.wanted(counting, rate), self.room)

    def wanted(self, counting: Counting, rate: float | None) -> int:
        """Instances to run if there were room for all of them."""
        needed = 1 if rate is None else max(1, ceil(rate / self.requests_per_second))
        if counting.by is CountBy.FIXED:
            return counting.number
        if counting.by is CountBy.FIT:
            return self.room
        if counting.by is CountBy.RATE:
            return needed
        return min(counting.most, max(counting.least, 1, needed))

    def carried(self, instances: int, rate: float) -> float:
        """Requests per second of `rate` that so many instances carry."""
        return min(rate, instances * self.requests_per_second)


def gain(
    present: Prospect,
    candidate: Prospect,
    *,
    counting: Counting,
    rate: float | None,
    by_latency: bool,
) -> float:
    """The candidate's worth over the present layout, as a share; see the module's formulas."""
    if candidate.excess > 1 and present.excess <= 1:
        return -1.0
    found = _worth(present, candidate, counting, rate, by_latency)
    if present.excess > 1 and candidate.excess <= 1:
        return max(found, present.excess - 1)
    return found


def _worth(
    present: Prospect,
    candidate: Prospect,
    counting: Counting,
    rate: float | None,
    by_latency: bool,
) -> float:
    if by_latency:
        return present.tpot_seconds / candidate.tpot_seconds - 1
    before, after = present.count(counting, rate), candidate.count(counting, rate)
    if counting.by is CountBy.FIT:
        served = before * present.requests_per_second
        return after * candidate.requests_per_second / served - 1
    if counting.by is CountBy.FIXED or rate is None:
        each = present.requests_per_second / present.gpus_taken
        return candidate.requests_per_second / candidate.gpus_taken / each - 1
    carried = candidate.carried(after, rate) / present.carried(before, rate) - 1
    if abs(carried) > 1e-9:
        return carried
    return before * present.gpus_taken / (after * candidate.gpus_taken) - 1
