"""What a decision is made from: one model's instances, load, measurements and limits. Frozen.

The live controller fills these from replicas and the cluster, the simulator from its engines.
Times are seconds on one clock that only goes forward; the caller reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from rayserve_par.errors import RefusedError


class Phase(StrEnum):
    """Where an instance is in its life. A draining one takes no new requests."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class InstanceState:
    """One instance as it reports. `ready_seconds` is when a starting one is expected, or None.

    `kv_use` is the share of its KV memory in use, 0 to 1.
    """

    name: str
    phase: Phase
    running: int = 0
    waiting: int = 0
    kv_use: float = 0.0
    ready_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class LoadHistory:
    """Arrivals by bins of `bin_seconds`, oldest first; the last bin ends at `end_seconds`.

    `requests` and `prompt_tokens` are sums of each bin. `isl` and `osl` are the means of what has
    been seen over the history, in tokens (output lengths are those of ended requests).
    """

    end_seconds: float
    bin_seconds: float
    requests: Sequence[float]
    prompt_tokens: Sequence[float]
    isl: float
    osl: float

    def __post_init__(self) -> None:
        if len(self.requests) != len(self.prompt_tokens):
            raise RefusedError(
                f"load history: {len(self.requests)} bins of requests and "
                f"{len(self.prompt_tokens)} of prompt tokens; they must be as many."
            )
        if self.bin_seconds <= 0:
            raise RefusedError(f"load history: bins of {self.bin_seconds:g} s; give above 0.")

    @property
    def seconds(self) -> float:
        """How far it goes back."""
        return self.bin_seconds * len(self.requests)

    def rate(self, seconds: float) -> float:
        """Requests per second over the last `seconds`, or over as much as there is."""
        bins = max(1, round(seconds / self.bin_seconds))
        last = self.requests[-bins:]
        return sum(last) / (len(last) * self.bin_seconds) if last else 0.0


@dataclass(frozen=True, slots=True)
class Steps:
    """Engine steps of one kind over all instances since the last decision: sums.

    `prompt_tokens` and `decodes` are those of all the steps, `context_tokens` the sum of what the
    decodes attended to.
    """

    count: int = 0
    seconds: float = 0.0
    prompt_tokens: float = 0.0
    decodes: float = 0.0
    context_tokens: float = 0.0


@dataclass(frozen=True, slots=True)
class Measured:
    """What engines did since the last decision. Means over requests that ended; None if none did.

    `decode_steps` carried no prompt tokens, `prefill_steps` did.
    """

    ended: int = 0
    ttft_seconds: float | None = None
    tpot_seconds: float | None = None
    decode_steps: Steps = Steps()
    prefill_steps: Steps = Steps()


@dataclass(frozen=True, slots=True)
class ModelState:
    """Everything that one decision about one model depends on, besides settings and memory.

    `held` are requests that wait for a first instance. `start_seconds` is how long a start takes,
    as measured. `room` is how many further instances the free GPUs hold; None where nobody knows.
    """

    now_seconds: float
    instances: tuple[InstanceState, ...]
    load: LoadHistory
    start_seconds: float
    held: int = 0
    measured: Measured = Measured()
    room: int | None = None

    def count(self, phase: Phase) -> int:
        """Instances in this phase."""
        return sum(one.phase is phase for one in self.instances)

    @property
    def target(self) -> int:
        """Instances that run or start: what was wanted last, as far as it came true."""
        return sum(one.phase is not Phase.DRAINING for one in self.instances)

    @property
    def ongoing(self) -> int:
        """Requests in or before any engine."""
        return self.held + sum(one.running + one.waiting for one in self.instances)

    @property
    def waiting(self) -> int:
        """Requests that wait for a batch."""
        return self.held + sum(one.waiting for one in self.instances)
