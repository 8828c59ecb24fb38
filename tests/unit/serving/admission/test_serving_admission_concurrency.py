"""The concurrency limit on simulated engines: what is shed, and what those who get in feel.

Two engines: one with `slots` that runs so many requests at once and queues the rest, and one that
runs all at once, each the slower (a CPU engine). Arrivals are Poisson or closed loops.
"""

import heapq
import random
from dataclasses import dataclass, field
from itertools import count
from statistics import median

import pytest
from pydantic import ValidationError

from rayserve_par.serving.admission.args import ConcurrencyArgs
from rayserve_par.serving.admission.concurrency import (
    WINDOW_SECONDS,
    AdaptiveLimit,
    EngineLoad,
    concurrency_limit,
)

PREFILL_SECONDS = 0.02
SERVICE_SECONDS = 1.0


@dataclass
class Outcome:
    ttfts_seconds: list[float] = field(default_factory=list)
    completed: int = 0
    shed: int = 0
    offered: int = 0
    shed_important: int = 0
    offered_important: int = 0

    @property
    def shed_share(self) -> float:
        return self.shed / max(1, self.offered)

    def ttft(self, share: float) -> float:
        values = sorted(self.ttfts_seconds)
        return values[min(len(values) - 1, int(share * len(values)))]


def simulate_slots(
    limit: AdaptiveLimit,
    *,
    slots: int,
    load: float,
    seconds: float = 120.0,
    warm_seconds: float = 20.0,
    sees_engine: bool = True,
    important_share: float = 0.0,
) -> Outcome:
    """Poisson arrivals at `load` x capacity on an engine of `slots` with a FIFO queue."""
    chance, order, outcome = random.Random(1), count(), Outcome()
    events: list[tuple[float, int, str, float]] = []
    waiting: list[float] = []
    running = 0

    def push(at: float, what: str, arrived: float = 0.0) -> None:
        heapq.heappush(events, (at, next(order), what, arrived))

    def start(now: float, arrived: float) -> None:
        nonlocal running
        running += 1
        push(now + PREFILL_SECONDS, "first", arrived)
        push(now + PREFILL_SECONDS + chance.expovariate(1 / SERVICE_SECONDS), "end", arrived)

    push(0.0, "window")
    push(0.0, "arrival")
    while events:
        now, _, what, arrived = heapq.heappop(events)
        if now > seconds:
            break
        counts = now >= warm_seconds
        if what == "window":
            limit.observe(now, EngineLoad(running, len(waiting)) if sees_engine else None)
            push(now + WINDOW_SECONDS, "window")
        elif what == "arrival":
            push(now + chance.expovariate(load * slots / SERVICE_SECONDS), "arrival")
            important = chance.random() < important_share
            outcome.offered += counts
            outcome.offered_important += counts and important
            if not limit.admits(-1 if important else 0):
                outcome.shed += counts
                outcome.shed_important += counts and important
                continue
            limit.begin(stream=True)
            if running < slots:
                start(now, now)
            else:
                waiting.append(now)
        elif what == "first":
            limit.first_token(now - arrived)
            if counts:
                outcome.ttfts_seconds.append(now - arrived)
        else:
            limit.end(pending_stream=False, served=False)
            outcome.completed += counts
            running -= 1
            if waiting:
                start(now, waiting.pop(0))
    return outcome


def adaptive(max_num_seqs: int | None, **settings: float) -> AdaptiveLimit:
    return concurrency_limit(ConcurrencyArgs.model_validate(settings), max_num_seqs)


@pytest.mark.parametrize("slots", [16, 64, 256])
@pytest.mark.parametrize("load", [0.1, 0.5])
def test_nothing_is_shed_below_capacity(slots: int, load: float) -> None:
    outcome = simulate_slots(adaptive(slots), slots=slots, load=load)
    assert outcome.shed == 0
    assert outcome.ttft(0.5) < 2 * PREFILL_SECONDS


@pytest.mark.parametrize("slots", [16, 64, 256])
@pytest.mark.parametrize("load", [1.0, 5.0])
@pytest.mark.parametrize("sees_engine", [True, False])
def test_overload_is_shed_while_the_accepted_keep_their_ttft(
    slots: int, load: float, sees_engine: bool
) -> None:
    limit = adaptive(slots)
    outcome = simulate_slots(limit, slots=slots, load=load, sees_engine=sees_engine)
    goodput = outcome.completed / 100 / (slots / (SERVICE_SECONDS + PREFILL_SECONDS))
    print(
        f"slots {slots}, load {load}: shed {outcome.shed_share:.2f}, goodput {goodput:.2f}, "
        f"TTFT p50 {outcome.ttft(0.5):.2f} p99 {outcome.ttft(0.99):.2f}, limit {limit.limit:.0f}"
    )
    assert outcome.ttft(0.5) < 1.0
    assert outcome.ttft(0.99) < 2.5
    assert goodput > (0.97 if load > 1 else 0.9)
    if load > 1:
        assert outcome.shed_share == pytest.approx(1 - 1 / load, abs=0.03)


def test_without_a_limit_the_same_overload_queues_without_end() -> None:
    limit = concurrency_limit(ConcurrencyArgs(mode="off"), 16)
    outcome = simulate_slots(limit, slots=16, load=5.0)
    assert outcome.shed == 0
    assert outcome.ttft(0.5) > 20


def test_shedding_begins_within_seconds_of_an_overload() -> None:
    limit = adaptive(16)
    outcome = simulate_slots(limit, slots=16, load=5.0, seconds=10.0, warm_seconds=5.0)
    assert outcome.shed_share > 0.7


def test_important_callers_are_shed_last() -> None:
    outcome = simulate_slots(adaptive(64), slots=64, load=5.0, important_share=0.1)
    assert outcome.shed_share > 0.7
    assert outcome.shed_important / outcome.offered_important < 0.02


def test_later_callers_are_shed_first() -> None:
    limit = AdaptiveLimit(least=10, start=10, ceiling=10, reserve=0.2)
    for _ in range(8):
        limit.begin(stream=False)
    assert [limit.admits(priority) for priority in (1, 0, -1)] == [False, True, True]
    for _ in range(2):
        limit.begin(stream=False)
    assert [limit.admits(priority) for priority in (1, 0, -1)] == [False, False, True]


@pytest.mark.parametrize("streams", [1, 8, 32, 128])
@pytest.mark.parametrize("seconds_per_request", [0.05, 0.3])
def test_closed_loops_on_a_slow_engine_that_runs_all_at_once_are_never_shed(
    streams: int, seconds_per_request: float
) -> None:
    """Each step serves all; a request takes 32 steps, each as long as all others make it."""
    limit, now, next_window = adaptive(256), 0.0, 0.0
    steps = [0] * streams
    began = [0.0] * streams
    for _ in range(streams):
        assert limit.admits(0)
        limit.begin(stream=True)
    while now < 60 + 64 * streams * seconds_per_request / 10:
        now += streams * seconds_per_request / 32
        for index in range(streams):
            steps[index] += 1
            if steps[index] == 2:
                limit.first_token(now - began[index])
            elif steps[index] == 33:
                limit.end(pending_stream=False, served=False)
                assert limit.admits(0)
                limit.begin(stream=True)
                steps[index], began[index] = 0, now
        if now >= next_window:
            limit.observe(now, EngineLoad(running=streams))
            next_window = now + WINDOW_SECONDS
    assert limit.limit >= 128


def test_128_streams_on_an_engine_whose_kv_holds_half_of_them_are_not_shed() -> None:
    limit, waiting, ends = adaptive(256), 128, []
    now = 0.0
    for _ in range(128):
        limit.begin(stream=True)
    while now < 300:
        while len(ends) < 60 and waiting:
            waiting -= 1
            ends.append(now + 16.0)
            limit.first_token(now)
        now = round(now + 0.25, 2)
        for end in [end for end in ends if end <= now]:
            ends.remove(end)
            limit.end(pending_stream=False, served=False)
            assert limit.admits(0)
            limit.begin(stream=True)
            waiting += 1
        limit.observe(now, EngineLoad(running=len(ends), waiting=waiting))
    assert limit.limit >= 128


def test_the_limit_recovers_when_the_overload_is_over() -> None:
    limit = adaptive(16)
    simulate_slots(limit, slots=16, load=5.0, seconds=30)
    low = limit.limit
    while limit._pending_streams:
        limit.end(pending_stream=True, served=False)
    while limit.in_flight:
        limit.end(pending_stream=False, served=True)
    for window in range(200):
        limit.observe(1000 + window * WINDOW_SECONDS, EngineLoad())
    assert low < 64
    assert limit.limit > 0.9 * limit.start


def test_a_burst_that_drains_by_itself_changes_nothing() -> None:
    limit = adaptive(16)
    for _ in range(60):
        limit.begin(stream=True)
    for _ in range(50):
        limit.first_token(0.2)
    limit.observe(0.0, EngineLoad(running=16, waiting=10))
    limit.observe(0.5, EngineLoad(running=16, waiting=200))
    limit.observe(1.0, EngineLoad(running=16, waiting=0))
    assert limit.limit >= limit.start


@pytest.mark.parametrize(
    ("settings", "max_num_seqs", "least", "start"),
    [
        ({}, None, 256, 512),
        ({}, 1024, 256, 512),
        ({}, 16, 16, 32),
        ({"min": 4}, 16, 4, 8),
        ({"min": 300}, 16, 300, 600),
        ({"max": 64}, 256, 64, 64),
        ({"start": 200}, 256, 256, 256),
        ({"mode": "fixed", "limit": 7}, 256, 7, 7),
    ],
)
def test_the_limits_of_the_limit(
    settings: dict[str, object], max_num_seqs: int | None, least: int, start: int
) -> None:
    limit = concurrency_limit(ConcurrencyArgs.model_validate(settings), max_num_seqs)
    assert (limit.least, limit.start, limit.limit) == (least, start, start)


@pytest.mark.parametrize(
    "settings", [{"mode": "fixed"}, {"limit": 5}, {"min": 9, "max": 8}, {"start": 3, "min": 5}]
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ConcurrencyArgs.model_validate(settings)


def test_the_median_of_a_light_load_is_the_baseline() -> None:
    limit = adaptive(16)
    limit.observe(0.0, None)
    for ttft in (0.1, 0.2, 0.3):
        limit.begin(stream=True)
        limit.first_token(ttft)
    limit.observe(0.5, None)
    assert limit.baseline_seconds == median((0.1, 0.2, 0.3))
