"""The instances of a model over simulated time: starts, drains, deaths, and the router.

Load of an instance = running + 4 x waiting, the weight that the front gives (decision 0013); a new
request goes to the least loaded ready one, of equals to the one that waited longest for work.
GPUs of an instance are in use from its start to its end, the start included.
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush

from rayserve_par.control.decide.state import InstanceState, Phase
from rayserve_par.control.simulate.engine import Engine, EngineLimits, StepTally, Times
from rayserve_par.control.simulate.request import Request

_WAITING_WEIGHT = 4


class Instance:
    """One instance; `ready_seconds` is when it is or was expected."""

    __slots__ = ("end_seconds", "engine", "load", "number", "phase", "ready_seconds", "start")

    def __init__(self, number: int, engine: Engine, start: float, ready: float) -> None:
        self.number = number
        self.engine = engine
        self.phase = Phase.STARTING
        self.start = start
        self.ready_seconds = ready
        self.end_seconds: float | None = None
        self.load = 0

    def state(self) -> InstanceState:
        """As it would report."""
        engine = self.engine
        return InstanceState(
            name=f"i{self.number}",
            phase=self.phase,
            running=engine.running,
            waiting=len(engine.waiting),
            kv_use=engine.kv_tokens / engine.kv_limit,
            ready_seconds=self.ready_seconds if self.phase is Phase.STARTING else None,
        )


class Fleet:
    """All instances, living and past, and requests that are held while none is ready."""

    def __init__(self, times: Times, limits: EngineLimits, held_requests: int) -> None:
        self._times, self._limits = times, limits
        self._held_limit = held_requests
        self.tally = StepTally()
        self.held: deque[Request] = deque()
        self.living: dict[int, Instance] = {}
        self.past: list[Instance] = []
        self._routes: list[tuple[int, int, int]] = []
        self._stamp = 0
        self._numbers = 0
        self.events: list[tuple[float, int, int, int]] = []

    def start(self, now: float, ready: float) -> Instance:
        """Begin to start an instance."""
        self._numbers += 1
        engine = Engine(self._times, self._limits, self.tally)
        instance = Instance(self._numbers, engine, now, ready)
        self.living[instance.number] = instance
        return instance

    def make_ready(self, instance: Instance, now: float) -> None:
        """A start has succeeded; held requests go to it at once."""
        instance.phase = Phase.READY
        self._offer(instance)
        while self.held:
            self.route(self.held.popleft(), now)

    def end(self, instance: Instance, now: float) -> None:
        """Its GPUs are free again."""
        instance.end_seconds = now
        instance.engine.version += 1
        del self.living[instance.number]
        self.past.append(instance)

    def drain(self, instance: Instance, now: float) -> None:
        """No new requests; it ends when it has finished what it has. A starting one ends now."""
        if instance.phase is Phase.STARTING or instance.engine.empty:
            self.end(instance, now)
        else:
            instance.phase = Phase.DRAINING

    def route(self, request: Request, now: float) -> bool:
        """Give a request to an instance, or hold it. False where neither can be."""
        routes = self._routes
        while routes:
            load, _, number = routes[0]
            instance = self.living.get(number)
            if instance is None or instance.phase is not Phase.READY or instance.load != load:
                heappop(routes)
                continue
            if instance.engine.add(request, now):
                self._schedule(instance)
            self._reload(instance)
            return True
        if len(self.held) < self._held_limit:
            self.held.append(request)
            return True
        return False

    def phase_ended(self, instance: Instance, now: float) -> list[Request]:
        """An engine's phase has ended; the next one begins. The requests that ended."""
        ended = instance.engine.finish(now)
        instance.engine.start(now)
        if instance.engine.end_seconds is not None:
            self._schedule(instance)
        if instance.phase is Phase.READY:
            self._reload(instance)
        elif instance.phase is Phase.DRAINING and instance.engine.empty:
            self.end(instance, now)
        return ended

    def of_phase(self, phase: Phase) -> list[Instance]:
        """Living instances in this phase, oldest first."""
        return [one for one in self.living.values() if one.phase is phase]

    def _schedule(self, instance: Instance) -> None:
        self._stamp += 1
        engine = instance.engine
        assert engine.end_seconds is not None
        heappush(self.events, (engine.end_seconds, self._stamp, instance.number, engine.version))

    def _reload(self, instance: Instance) -> None:
        engine = instance.engine
        if engine.running + _WAITING_WEIGHT * len(engine.waiting) != instance.load:
            self._offer(instance)

    def _offer(self, instance: Instance) -> None:
        engine = instance.engine
        instance.load = engine.running + _WAITING_WEIGHT * len(engine.waiting)
        self._stamp += 1
        heappush(self._routes, (instance.load, self._stamp, instance.number))
