"""A cluster's course of instance counts beside the simulator's, under the same load.

Agreement is the share of a simulation's decisions for which the cluster wanted the same number of
instances within one interval before or after. The simulation is run

at the cluster's looks   it decides when the live controller did and knows as much of the arrivals
                         (live_looks.py); once with the arrivals as they were sent, and in draws in
                         which each comes up to `LATE_SECONDS` later, as the way to the engine does
by itself                it looks every interval from 0 on and knows all until then
looks drawn              looks fall anew, with ages in another order: the cluster with each of these
                         simulations, and these with each other, which is what chance is worth
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise, permutations
from statistics import mean, median
from typing import Any

from benchmarks.autoscaling.latency import Percentiles, simulated_with, table
from benchmarks.autoscaling.live_looks import AtLooks, Look, drawn_looks
from benchmarks.autoscaling.set_times import SetTimes
from rayserve_par.control.decide.scale import ScalePolicy
from rayserve_par.control.decide.settings import Bounds, ScaleSettings
from rayserve_par.control.instance_model.capacity import InstanceModel
from rayserve_par.control.simulate.engine import EngineLimits
from rayserve_par.control.simulate.request import Arrival
from rayserve_par.control.simulate.scenario import Scenario
from rayserve_par.serving.mock_engine.times import EngineTimes

BOUND = 0.95
LOOK_SECONDS, SETTLE_SECONDS, START_SECONDS = 2.0, 30.0, 10.0
TTFT_SECONDS, TPOT_SECONDS = 2.0, 0.1
TOKENS = 0.1
LATE_SECONDS, DRAWS = 0.02, 20
# Short prompts at a slow prefill: one instance carries a few requests a second.
MOCK = EngineTimes(
    prefill_tokens_per_second=1000.0,
    step_base_seconds=0.02,
    step_seconds_per_sequence=0.001,
    max_num_seqs=64,
    max_num_batched_tokens=64,
    max_model_len=2048,
    enable_prefix_caching=False,
)
LIMITS = EngineLimits(MOCK.kv_tokens, MOCK.max_num_seqs, MOCK.max_num_batched_tokens)


@dataclass(frozen=True, slots=True)
class Wanted:
    """How many instances were wanted and ready at a moment, seconds since the replay's start."""

    seconds: float
    wanted: int
    ready: int


def agreement(cluster: Sequence[Wanted], simulator: Sequence[Wanted], interval: float) -> float:
    """See the module's docstring."""
    same = 0
    for one in simulator:
        near = {other.wanted for other in cluster if abs(other.seconds - one.seconds) <= interval}
        before = [other.wanted for other in cluster if other.seconds <= one.seconds]
        same += one.wanted in (near | set(before[-1:]))
    return same / len(simulator)


def changes(looks: Sequence[Wanted]) -> list[Wanted]:
    """The first look and those at which the number changed."""
    return [
        one for index, one in enumerate(looks) if not index or looks[index - 1].wanted != one.wanted
    ]


@dataclass(frozen=True, slots=True)
class Course:
    """What a cluster was sent and what it did, on a clock that begins with the second of `zero`.

    `arrivals` are those sent, from 0 on; `zero` is the Unix time of that 0; `start_seconds` what
    the controller measured a start to take.
    """

    most: int
    zero: float
    start_seconds: float
    times: SetTimes
    arrivals: tuple[Arrival, ...]
    looks: tuple[Look, ...]
    wanted: tuple[Wanted, ...]
    latency: Percentiles

    def as_object(self) -> dict[str, Any]:
        """As JSON."""
        arrivals = [[round(one.seconds, 4), one.isl, one.osl] for one in self.arrivals]
        return {**asdict(self), "arrivals": arrivals}

    @classmethod
    def from_object(cls, found: Mapping[str, Any]) -> Course:
        """The reverse of `as_object`."""
        return cls(
            most=found["most"],
            zero=found["zero"],
            start_seconds=found["start_seconds"],
            times=SetTimes(**found["times"]),
            arrivals=tuple(Arrival(*one) for one in found["arrivals"]),
            looks=tuple(Look(**one) for one in found["looks"]),
            wanted=tuple(Wanted(**one) for one in found["wanted"]),
            latency=Percentiles(**found["latency"]),
        )

    @property
    def interval_seconds(self) -> float:
        """Between two looks."""
        gaps = [later.seconds - one.seconds for one, later in pairwise(self.looks)]
        return max(LOOK_SECONDS, median(gaps))


def simulate_counts(
    arrivals: Sequence[Arrival],
    times: SetTimes,
    most: int,
    start_seconds: float,
    looks: Sequence[Look] = (),
) -> tuple[list[Wanted], Percentiles]:
    """What the simulator wants, by itself or at these looks, and its percentiles."""
    bounds = Bounds(1, most)
    settings = ScaleSettings(bounds, look_seconds=LOOK_SECONDS, settle_seconds=SETTLE_SECONDS)
    model = InstanceModel(
        times,
        kv_tokens=LIMITS.kv_tokens,
        max_num_seqs=LIMITS.max_num_seqs,
        max_num_batched_tokens=LIMITS.max_num_batched_tokens,
        ttft_limit=TTFT_SECONDS,
        tpot_limit=TPOT_SECONDS,
    )
    scenario = Scenario(
        times=times,
        limits=LIMITS,
        gpus_per_instance=1,
        initial=1,
        most=most,
        start_seconds=start_seconds,
        duration_seconds=arrivals[-1].seconds,
        ttft_limit=TTFT_SECONDS,
        tpot_limit=TPOT_SECONDS,
    )
    policy = ScalePolicy(settings, model, start_seconds)
    found, outcome = simulated_with(arrivals, scenario, AtLooks(policy, looks) if looks else policy)
    return [Wanted(one.seconds, one.wanted, one.ready) for one in outcome.samples], found


def from_second(arrivals: Sequence[Arrival], zero: float) -> tuple[Arrival, ...]:
    """On a clock that began with the second in which `zero` lies."""
    return tuple(replace(one, seconds=one.seconds + zero % 1) for one in arrivals)


def delayed(arrivals: Sequence[Arrival], most_seconds: float, seed: int) -> list[Arrival]:
    """Each up to so much later, in the order in which they then come."""
    draw = random.Random(seed)
    return sorted(
        replace(one, seconds=one.seconds + draw.uniform(0, most_seconds)) for one in arrivals
    )


@dataclass(frozen=True, slots=True)
class Verdict:
    """Agreements, the courses of two simulations, and latency in the one at the looks."""

    at_looks: float
    at_looks_late: tuple[float, ...]
    by_itself: float
    looks_drawn: tuple[float, ...]
    drawn_with_each_other: tuple[float, ...]
    simulated: tuple[Wanted, ...]
    simulated_by_itself: tuple[Wanted, ...]
    latency: Percentiles

    @property
    def within(self) -> float:
        """The share of the draws at the looks that agree as much as is asked for."""
        return mean(one >= BOUND for one in self.at_looks_late)


def judge(course: Course) -> Verdict:
    """Simulate the course in all ways of the module's docstring."""
    begun = from_second(course.arrivals, course.zero)
    interval, looks = course.interval_seconds, course.looks
    # An instance began to run between the look that saw it and the one before.
    start = max(0.0, course.start_seconds - interval / 2)

    def run(
        arrivals: Sequence[Arrival], at: Sequence[Look] = ()
    ) -> tuple[list[Wanted], Percentiles]:
        found, latency = simulate_counts(arrivals, course.times, course.most, start, at)
        return [one for one in found if not at or one.seconds >= at[0].seconds], latency

    simulated, latency = run(begun, looks)
    late = [run(delayed(begun, LATE_SECONDS, seed), looks)[0] for seed in range(DRAWS)]
    alone, _ = run(begun)
    end = begun[-1].seconds
    drawn = [
        run(begun, drawn_looks(looks, course.start_seconds, end, seed))[0] for seed in range(DRAWS)
    ]
    wanted = course.wanted
    return Verdict(
        at_looks=agreement(wanted, simulated, interval),
        at_looks_late=tuple(agreement(wanted, one, interval) for one in late),
        by_itself=agreement(wanted, alone, interval),
        looks_drawn=tuple(agreement(wanted, one, interval) for one in drawn),
        drawn_with_each_other=tuple(
            agreement(one, other, interval) for one, other in permutations(drawn, 2)
        ),
        simulated=tuple(simulated),
        simulated_by_itself=tuple(alone),
        latency=latency,
    )


def text_of(course: Course, found: Verdict) -> str:
    """The verdict for people; Markdown."""
    ages = [one.age_seconds for one in course.looks]
    rows = [
        ("cluster", course.wanted),
        ("simulator at its looks", found.simulated),
        ("simulator by itself", found.simulated_by_itself),
    ]
    late = found.at_looks_late
    return "\n".join(
        [
            f"{len(course.arrivals)} requests over {course.arrivals[-1].seconds:.0f} s; a start "
            f"took {course.start_seconds:.1f} s; {len(course.looks)} looks, "
            f"{course.interval_seconds:.2f} s apart, at arrivals {mean(ages):.1f} s old "
            f"({min(ages):.1f} to {max(ages):.1f})",
            *(
                f"{label}: "
                + ", ".join(f"{one.wanted} at {one.seconds:.0f} s" for one in changes(those))
                for label, those in rows
            ),
            f"The same number within {course.interval_seconds:.2f} s:",
            f"- at the cluster's looks {found.at_looks:.1%} of {len(found.simulated)} decisions",
            f"- and with arrivals up to {1e3 * LATE_SECONDS:g} ms later {_shares(late)}; "
            f"{found.within:.0%} of {len(late)} draws reach {BOUND:.0%}",
            f"- by itself {found.by_itself:.1%}",
            f"- with looks drawn {_shares(found.looks_drawn)}; these with each other "
            f"{_shares(found.drawn_with_each_other)}",
            table(course.latency, found.latency),
        ]
    )


def _shares(shares: Sequence[float]) -> str:
    return f"{mean(shares):.1%} ({min(shares):.1%} to {max(shares):.1%})"
