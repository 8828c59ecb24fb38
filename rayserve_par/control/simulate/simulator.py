"""The event loop: arrivals, ends of engine phases, starts, failures, and decisions.

Events are taken in the order of time; at one time an arrival comes first, then ends of phases,
then starts and failures, then the decision. After the last arrival and the trace's end no more is
decided, and the engines finish what they have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from heapq import heappop, heappush
from math import inf
from typing import Any

from rayserve_par.control.decide.decision import Decision, Policy
from rayserve_par.control.decide.state import Measured, ModelState, Phase
from rayserve_par.control.simulate.fleet import Fleet, Instance
from rayserve_par.control.simulate.observed_load import ObservedLoad
from rayserve_par.control.simulate.request import Arrival, Request
from rayserve_par.control.simulate.scenario import Failure, Scenario
from rayserve_par.errors import RefusedError

_RETRIES = 1


@dataclass(frozen=True, slots=True)
class Sample:
    """The fleet at one decision, before it is carried out."""

    seconds: float
    ready: int
    starting: int
    draining: int
    ongoing: int
    waiting: int
    wanted: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a simulation. `decisions` are all; `instances` are (start, end) seconds."""

    requests: tuple[Request, ...]
    samples: tuple[Sample, ...]
    decisions: tuple[tuple[float, Decision], ...]
    instances: tuple[tuple[float, float], ...]
    gpu_seconds: float


class _Simulation:
    def __init__(self, scenario: Scenario, policy: Policy, arrivals: Sequence[Arrival]) -> None:
        self.scenario, self.policy = scenario, policy
        self.arrivals = arrivals
        self.fleet = Fleet(scenario.times, scenario.limits, scenario.held_requests)
        self.requests = [Request(one) for one in arrivals]
        self.load = ObservedLoad(policy.history_seconds)
        self.memory: Any = None
        self.samples: list[Sample] = []
        self.decisions: list[tuple[float, Decision]] = []
        self.others: list[tuple[float, int, Callable[[float], None]]] = []
        self.order = 0
        self.failing: set[int] = set()
        self.ended_since: list[Request] = []

    def run(self, progress: Callable[[float], None] | None) -> Outcome:
        scenario, fleet = self.scenario, self.fleet
        for _ in range(scenario.initial):
            fleet.make_ready(fleet.start(0.0, 0.0), 0.0)
        for failure in scenario.failures:
            self._at(failure.seconds, partial(self._fail, failure))
        self._at(0.0, self._decide)
        arrivals, requests, events, others = self.arrivals, self.requests, fleet.events, self.others
        index, count = 0, len(arrivals)
        living = fleet.living
        next_arrival = arrivals[0].seconds if count else inf
        shown = 0.0
        while True:
            phase_end = events[0][0] if events else inf
            other = others[0][0] if others else inf
            if next_arrival <= phase_end and next_arrival <= other:
                if next_arrival == inf:
                    break
                request = requests[index]
                self.load.arrived(next_arrival, request.isl)
                self._send(request, next_arrival)
                index += 1
                next_arrival = arrivals[index].seconds if index < count else inf
            elif phase_end <= other:
                now, _, number, version = heappop(events)
                instance = living.get(number)
                if instance is None or instance.engine.version != version:
                    continue
                ended = fleet.phase_ended(instance, now)
                if ended:
                    self.ended_since += ended
            else:
                now, _, act = heappop(others)
                act(now)
                if progress is not None and now > shown:
                    progress(now)
                    shown = now
        return self._outcome()

    def _at(self, seconds: float, act: Callable[[float], None]) -> None:
        self.order += 1
        heappush(self.others, (seconds, self.order, act))

    def _send(self, request: Request, now: float) -> None:
        if not self.fleet.route(request, now):
            request.lost = "not held: no instance, and as many wait as may"
            request.end_seconds = now

    def _decide(self, now: float) -> None:
        scenario, fleet = self.scenario, self.fleet
        if now >= scenario.duration_seconds:
            self._give_up_held(now)
            return
        state = self._state(now)
        decision, self.memory = self.policy.decide(state, self.memory)
        ready, starting = state.count(Phase.READY), state.count(Phase.STARTING)
        self.samples.append(
            Sample(
                seconds=now,
                ready=ready,
                starting=starting,
                draining=state.count(Phase.DRAINING),
                ongoing=state.ongoing,
                waiting=state.waiting,
                wanted=decision.wanted,
            )
        )
        self.decisions.append((now, decision))
        wanted = min(decision.wanted, ready + starting + (state.room or 0))
        for _ in range(wanted - ready - starting):
            instance = fleet.start(now, now + scenario.start_seconds)
            self._at(instance.ready_seconds, partial(self._started, instance))
        if wanted < ready + starting:
            for instance in self._to_drain(ready + starting - wanted):
                fleet.drain(instance, now)
        following = max(decision.next_look_seconds, now + 1.0)
        self._at(min(following, now + scenario.interval_seconds), self._decide)

    def _state(self, now: float) -> ModelState:
        fleet, ended = self.fleet, self.ended_since
        states = tuple(one.state() for one in fleet.living.values())
        decode_steps, prefill_steps = fleet.tally.taken()
        for request in ended:
            self.load.ended(request.osl)
        ttft = [one.ttft_seconds for one in ended if one.ttft_seconds is not None]
        tpot = [one.tpot_seconds for one in ended if one.tpot_seconds]
        measured = Measured(
            ended=len(ended),
            ttft_seconds=sum(ttft) / len(ttft) if ttft else None,
            tpot_seconds=sum(tpot) / len(tpot) if tpot else None,
            decode_steps=decode_steps,
            prefill_steps=prefill_steps,
        )
        ended.clear()
        return ModelState(
            now_seconds=now,
            instances=states,
            load=self.load.history(now),
            start_seconds=self.scenario.start_seconds,
            held=len(fleet.held),
            measured=measured,
            room=max(0, self.scenario.most - len(states)),
        )

    def _to_drain(self, count: int) -> list[Instance]:
        """Starting ones first, the youngest before; then the least loaded."""
        starting = self.fleet.of_phase(Phase.STARTING)[::-1]
        ready = sorted(self.fleet.of_phase(Phase.READY), key=lambda one: (one.load, -one.number))
        return [*starting, *ready][:count]

    def _started(self, instance: Instance, now: float) -> None:
        if instance.number not in self.fleet.living:
            return
        if instance.number in self.failing:
            self.fleet.end(instance, now)
        else:
            self.fleet.make_ready(instance, now)

    def _fail(self, failure: Failure, now: float) -> None:
        if failure.kind == "start":
            starting = self.fleet.of_phase(Phase.STARTING)[: failure.count]
            self.failing.update(one.number for one in starting)
            return
        for instance in self.fleet.of_phase(Phase.READY)[: failure.count]:
            held = instance.engine.requests()
            self.fleet.end(instance, now)
            for request in held:
                self._after_death(request, now)

    def _after_death(self, request: Request, now: float) -> None:
        """The front tries a request without a token once more; a stream is cut."""
        if request.first_seconds is None and request.retries < _RETRIES:
            request.retries += 1
            request.prompt, request.prefilled = request.isl, 0
            self._send(request, now)
            return
        request.lost = "its instance died"
        request.end_seconds = now

    def _give_up_held(self, now: float) -> None:
        """The trace is over; who still waits for a first instance would wait for ever."""
        while self.fleet.held and not self.fleet.of_phase(Phase.STARTING):
            request = self.fleet.held.popleft()
            request.lost = "no instance came"
            request.end_seconds = now

    def _outcome(self) -> Outcome:
        end = self.scenario.duration_seconds
        fleet = self.fleet
        every = [*fleet.past, *fleet.living.values()]
        spans = tuple(
            (one.start, min(end, end if one.end_seconds is None else one.end_seconds))
            for one in sorted(every, key=lambda one: one.number)
        )
        used = sum(to - since for since, to in spans)
        return Outcome(
            requests=tuple(self.requests),
            samples=tuple(self.samples),
            decisions=tuple(self.decisions),
            instances=spans,
            gpu_seconds=used * self.scenario.gpus_per_instance,
        )


def simulate(
    scenario: Scenario,
    policy: Policy,
    arrivals: Sequence[Arrival],
    progress: Callable[[float], None] | None = None,
) -> Outcome:
    """Run `arrivals`, in order of time, against a fleet that `policy` decides about.

    `progress` is told the simulated seconds now and then.
    Raises RefusedError for a request that an instance's KV memory cannot hold.
    """
    most = scenario.limits.kv_tokens
    for number, one in enumerate(arrivals, start=1):
        if one.isl + one.osl + 1 > most:
            raise RefusedError(
                f"request {number} has {one.isl} + {one.osl} tokens, and the KV memory of a DP "
                f"rank holds {most:,}. Leave it out, or take a layout with more memory."
            )
    return _Simulation(scenario, policy, arrivals).run(progress)
