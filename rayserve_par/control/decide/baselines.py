"""What others do, behind the same interface, for comparison.

OngoingRequests is Ray Serve 2.60's default policy (ray/serve/autoscaling_policy.py and
AutoscalingConfig of ray/serve/config.py):

    desired = ceil(current + factor x (ongoing / target_ongoing_requests - current))

with `ongoing` averaged over look_back_period_s (30 s) and `current` the running replicas. More is
taken after it has been wanted for upscale_delay_s (30 s) without a break, fewer after
downscale_delay_s (600 s); a change of direction, or a look that wants no change, starts anew. Where
a factor would leave the number as it is, it goes down by one. With no replica and a request, one is
wanted at once.

AverageRate is the plain planner: mean rate over a window / rate of a full instance, rounded up,
at once; what an SLA planner does that looks at averages only.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from rayserve_par.control.decide.decision import Decision, Reason
from rayserve_par.control.decide.settings import Bounds
from rayserve_par.control.decide.state import ModelState, Phase
from rayserve_par.control.instance_model.capacity import InstanceModel

_EPSILON_SECONDS = 1e-6


@dataclass(frozen=True, slots=True)
class Static:
    """Always as many."""

    instances: int
    name: str = "static"
    history_seconds: float = 60.0

    def decide(self, state: ModelState, memory: None) -> tuple[Decision, None]:
        """The same number, whatever happens."""
        decision = Decision(self.instances, Reason.STATIC, state.now_seconds + 60.0)
        return decision, memory


@dataclass(frozen=True, slots=True)
class OngoingMemory:
    """Ongoing requests seen lately as (seconds, number), the direction, and since when."""

    seen: tuple[tuple[float, int], ...] = ()
    direction: int = 0
    since_seconds: float = 0.0
    target: int = 0


@dataclass(frozen=True, slots=True)
class OngoingRequests:
    """Serve's `target_ongoing_requests`. Names of settings are Serve's."""

    bounds: Bounds
    target_ongoing_requests: float = 2.0
    upscale_delay_s: float = 30.0
    downscale_delay_s: float = 600.0
    upscaling_factor: float = 1.0
    downscaling_factor: float = 1.0
    look_back_period_s: float = 30.0
    name: str = "target_ongoing_requests"
    history_seconds: float = 60.0

    def decide(
        self, state: ModelState, memory: OngoingMemory | None
    ) -> tuple[Decision, OngoingMemory]:
        """Serve's rule, its delays counted on the state's clock."""
        now = state.now_seconds
        before = memory or OngoingMemory(target=state.target)
        first = now - self.look_back_period_s
        seen = (*(one for one in before.seen if one[0] > first), (now, state.ongoing))
        ongoing = sum(number for _, number in seen) / len(seen)
        current = state.count(Phase.READY)
        if current == 0 and ongoing > 0:
            wanted = max(ceil(self.upscaling_factor), before.target)
            return self._decided(state, OngoingMemory(seen, 0, now, self.bounds.clamp(wanted)))
        desired = self._desired(ongoing, current) if current else before.target
        return self._decided(state, self._after_delay(desired, before, seen, now))

    def _desired(self, ongoing: float, current: int) -> int:
        wanted = ongoing / self.target_ongoing_requests
        more = wanted > current
        factor = self.upscaling_factor if more else self.downscaling_factor
        scaled = ceil(current + factor * (wanted - current))
        if ceil(wanted) < current and scaled == current:
            scaled -= 1
        return max(0, scaled)

    def _after_delay(
        self, desired: int, before: OngoingMemory, seen: tuple[tuple[float, int], ...], now: float
    ) -> OngoingMemory:
        target = before.target
        if desired == target:
            return OngoingMemory(seen, 0, now, target)
        direction = 1 if desired > target else -1
        since = before.since_seconds if before.direction == direction else now
        delay = self.upscale_delay_s if direction > 0 else self.downscale_delay_s
        if now - since + _EPSILON_SECONDS < delay:
            return OngoingMemory(seen, direction, since, target)
        floor = 0 if target == 1 else 1
        wanted = desired if direction > 0 else max(floor, desired)
        return OngoingMemory(seen, 0, now, self.bounds.clamp(wanted))

    def _decided(self, state: ModelState, memory: OngoingMemory) -> tuple[Decision, OngoingMemory]:
        return Decision(memory.target, Reason.ONGOING, state.now_seconds + 10.0), memory


@dataclass(frozen=True, slots=True)
class AverageRate:
    """Mean rate over `window_seconds` / rate of a full instance."""

    bounds: Bounds
    model: InstanceModel
    window_seconds: float = 60.0
    name: str = "average_rate"

    @property
    def history_seconds(self) -> float:
        """Its window."""
        return self.window_seconds

    def decide(self, state: ModelState, memory: None) -> tuple[Decision, None]:
        """As many as carry the mean rate."""
        load = state.load
        capacity = self.model.capacity(load.isl, load.osl)
        needed = ceil(load.rate(self.window_seconds) / capacity.requests_per_second)
        wanted = self.bounds.clamp(needed)
        return Decision(wanted, Reason.AVERAGE, state.now_seconds + 10.0, needed=needed), memory
