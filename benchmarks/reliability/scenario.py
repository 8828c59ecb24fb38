"""One scenario: a load, a harm in its middle, and what the clients saw of it.

steady load -> harm -> until every instance serves again -> a little longer -> no new requests ->
every open request over. A request counts wherever in this it was sent. Streams that were open at
the moment of the harm and were cut give the delay from the harm to the cut.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from benchmarks.reliability.bench import Bench
from benchmarks.reliability.disturb import Harm
from benchmarks.reliability.haproxy import LogLine, LogReceiver, count_retried, count_unanswered
from benchmarks.reliability.load import Load, Shape
from benchmarks.reliability.outcome import (
    Kind,
    Request,
    Tally,
    cut_delays,
    longest_silence,
    moments,
    tally,
)

STREAMS = 16
_WARM_UP_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Target:
    """A bound on one figure of a scenario; `value` None where it could not be measured."""

    name: str
    value: float | None
    at_most: float

    @property
    def met(self) -> bool:
        """Whether the value is known and within its bound."""
        return self.value is not None and self.value <= self.at_most

    def __str__(self) -> str:
        value = "unknown" if self.value is None else f"{self.value:.2f}"
        return f"{self.name}: {value} (target <= {self.at_most:g})"


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is done, and what clients may see of it.

    cut_seconds: streams may be cut, and then within this many seconds; None: none may be.
    error_events: each cut stream must end with an error event.
    refusals: requests may be refused; where an instance always serves, none needs to be.
    ttft_seconds: the median TTFT of the accepted requests is to stay within it.
    slots: sequences that one instance runs at once; None for vLLM's default, far above the load.
    """

    name: str
    title: str
    harm: Callable[[Bench], Harm]
    cut_seconds: float | None = None
    error_events: bool = False
    refusals: bool = False
    streams: int = STREAMS
    shape: Shape = field(default_factory=Shape)
    tp: int = 1
    recovery_limit_seconds: float = 180.0
    settle_seconds: float = 5.0
    ttft_seconds: float | None = None
    slots: int | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What the clients and HAProxy's log say about one scenario.

    retried: None where HAProxy wrote no log. recovery_seconds: None where it never came.
    answered_afterwards: instances that answered requests sent after the recovery.
    log_reasons: what HAProxy's log says of requests without status 200.
    moments: from the harm to the first and the last request of each reason, in seconds.
    """

    scenario: Scenario
    tally: Tally
    retried: int | None
    open_at_harm: int
    cut_delays: tuple[float, ...]
    error_events: int
    recovery_seconds: float | None
    longest_silence_seconds: float
    ttft_p50_seconds: float | None
    answered_afterwards: int | None
    log_reasons: Mapping[str, int]
    moments: Mapping[str, tuple[float, float]]

    @property
    def targets(self) -> tuple[Target, ...]:
        """The bounds of this scenario."""
        scenario, cut = self.scenario, self.tally[Kind.CUT]
        made = [
            Target("lost", self.tally[Kind.LOST], 0),
            Target("failed", self.tally[Kind.FAILED], 0),
            Target("recovery seconds", self.recovery_seconds, scenario.recovery_limit_seconds),
        ]
        if scenario.cut_seconds is None:
            made.append(Target("cut", cut, 0))
        else:
            worst = max(self.cut_delays, default=0.0)
            made.append(Target("seconds from harm to cut", worst, scenario.cut_seconds))
        if not scenario.refusals:
            made.append(Target("refused", self.tally[Kind.REFUSED], 0))
        if scenario.error_events:
            made.append(Target("cut without an error event", cut - self.error_events, 0))
        if scenario.ttft_seconds is not None:
            made.append(Target("TTFT p50 seconds", self.ttft_p50_seconds, scenario.ttft_seconds))
        return tuple(made)

    @property
    def met(self) -> bool:
        """Whether every bound holds."""
        return all(target.met for target in self.targets)

    def document(self) -> dict[str, Any]:
        """Everything measured, for a file."""
        return {
            "scenario": self.scenario.name,
            "title": self.scenario.title,
            "streams": self.scenario.streams,
            **{kind.value: self.tally[kind] for kind in Kind},
            "retried": self.retried,
            "reasons": dict(self.tally.reasons),
            "open_at_harm": self.open_at_harm,
            "cut_delay_seconds": [round(delay, 3) for delay in self.cut_delays],
            "error_events": self.error_events,
            "recovery_seconds": self.recovery_seconds,
            "longest_silence_seconds": self.longest_silence_seconds,
            "ttft_p50_seconds": self.ttft_p50_seconds,
            "answered_afterwards": self.answered_afterwards,
            "log_reasons": dict(self.log_reasons),
            "moments": {why: [round(s, 2) for s in span] for why, span in self.moments.items()},
            "targets": [{**asdict(target), "met": target.met} for target in self.targets],
        }


def run_scenario(bench: Bench, scenario: Scenario, log: LogReceiver | None) -> Result:
    """Run one scenario on a bench whose instances all serve."""
    with Load(bench.url, bench.model, scenario.streams, scenario.shape) as load:
        load.wait_for(accepted=scenario.streams, seconds=_WARM_UP_SECONDS)
        harm = scenario.harm(bench)
        back = bench.wait_until_serving(
            scenario.recovery_limit_seconds, harm.gone, harm.killed_actor
        )
        recovered = time.monotonic()
        time.sleep(scenario.settle_seconds)
        requests = load.finish()
    return summarize(
        scenario,
        requests,
        harm,
        recovered if back else None,
        log.since(min(request.start for request in requests)) if log is not None else (),
    )


def summarize(
    scenario: Scenario,
    requests: Sequence[Request],
    harm: Harm,
    recovered: float | None,
    lines: Sequence[LogLine],
) -> Result:
    """The figures of one scenario from what was seen; `lines` is empty where there is no log."""
    delays = cut_delays(requests, harm.at)
    counted = tally(requests)
    return Result(
        scenario=scenario,
        tally=counted,
        retried=count_retried(lines) if lines else None,
        open_at_harm=sum(request.in_flight(harm.at) for request in requests),
        cut_delays=delays,
        error_events=counted.reasons.get(f"{Kind.CUT}: error event", 0),
        recovery_seconds=None if recovered is None else recovered - harm.at,
        longest_silence_seconds=longest_silence(requests, harm.at),
        ttft_p50_seconds=ttft_p50(requests),
        answered_afterwards=_answered(lines, recovered) if lines and recovered else None,
        log_reasons=count_unanswered(lines),
        moments=moments(requests, harm.at),
    )


def _answered(lines: Sequence[LogLine], since: float) -> int:
    return len({line.server for line in lines if line.begin > since and line.status == 200})


def ttft_p50(requests: Sequence[Request]) -> float | None:
    """Median time to first token of the accepted requests; None where there were none."""
    times = [
        request.first_token - request.start
        for request in requests
        if request.kind is Kind.ACCEPTED and request.first_token is not None
    ]
    return median(times) if times else None
