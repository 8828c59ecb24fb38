"""No scale-down soon after a scale-up, as long as load is what it was: no flapping.

A scale-up to n at load l leaves a floor of min(n, needed by load alone) for `settle_seconds`;
a later one raises it or, where it has lapsed, sets it anew. It lapses at once when the mean load
falls below l by more than a share d = max(15%, 4 standard errors): then it is the load that has
changed. What was added only to work off queues is not part of it, unless at most two were added
and none in the two starts before, as chance does. Very bursty load is left out by the caller,
since it has no level to be constant at; its look-back is long instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

_LEAST_DROP = 0.15
_ERRORS = 4.0


@dataclass(frozen=True, slots=True)
class Floor:
    """Instances that are kept, the load that they were added for, and since when."""

    instances: int = 0
    load: float = 0.0
    since_seconds: float = -inf

    def now(self, now_seconds: float, load: float, noise: float, settle_seconds: float) -> Floor:
        """The floor, or none where it has lapsed. `noise` is `load`'s relative error."""
        late = now_seconds - self.since_seconds >= settle_seconds
        fallen = load < self.load * (1 - max(_LEAST_DROP, _ERRORS * noise))
        return NO_FLOOR if late or fallen else self

    def raised(self, instances: int, load: float, now_seconds: float) -> Floor:
        """After a scale-up at this load."""
        return Floor(max(self.instances, instances), max(self.load, load), now_seconds)


NO_FLOOR = Floor()
QUEUE_SHARE = 2
