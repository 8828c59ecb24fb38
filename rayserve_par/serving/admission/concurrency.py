"""How many requests one instance holds at once: shed early instead of queueing without end. Pure.

After Netflix's concurrency-limits (https://github.com/Netflix/concurrency-limits, Vegas and
Gradient2: estimate the queue, compare with the uncongested latency), with what an engine adds: it
counts its queue itself, and a stream shows when it left the queue.

Once a window (0.5 s), with
    R    first tokens (streams) or answers (others) per second, smoothed over windows
    P    streams that wait for their first token;  W  the engine's own waiting queue, if known
    B    uncongested time to first token: the median while at most half of the least limit is in
         flight, smoothed; before there is one, 0
the time to first token that a new request faces is P/R (Little's law: no lag, unlike the times of
those already served), and
    excess = max(P/R - B, W/R)
    target = max(`target_queue_seconds`, 2 B)
Overload is excess > target in two windows running, so a burst that drains by itself sheds nothing:
    limit <- max(least, min(limit, in flight) - R (excess - target)),  by a half at most
Otherwise, if at least 80 % of the limit is in flight: limit <- limit + sqrt(limit), as in
Gradient2; else it drifts back to its start, 5 % of the way each window. Always <= `ceiling`.

`least` is what the engine runs at once: below it a limit would idle the engine, and an engine whose
requests all run, slowly, is busy and not overloaded. So N streams are never shed where the engine
runs N at once; who wants a shorter TTFT than an engine with all its slots in use can give sets
`min` or the engine's max_num_seqs lower.

It starts at twice that: one batch runs, one waits. A burst that comes before the first windows are
over is held to it, since what is admitted then can only wait its turn.

Priorities: callers before 0 may go `reserve` above the limit, callers after 0 stay `reserve` below
it, so the important are shed last.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import median

from rayserve_par.serving.admission.args import ConcurrencyArgs

WINDOW_SECONDS = 0.5
_SMOOTHING = 0.3
_USUAL_LEAST = 256
_WINDOWS_OF_OVERLOAD = 2


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """The engine's own numbers, as of its latest step."""

    running: int = 0
    waiting: int = 0
    kv_usage: float = 0.0


@dataclass(slots=True)
class AdaptiveLimit:
    """The limit and what it is computed from; one object for each instance."""

    least: int
    start: int
    ceiling: int
    target_queue_seconds: float = 0.5
    reserve: float = 0.1
    adapts: bool = True
    limit: float = field(init=False)
    in_flight: int = field(default=0, init=False)
    baseline_seconds: float | None = field(default=None, init=False)
    excess_seconds: float = field(default=0.0, init=False)
    _pending_streams: int = field(default=0, init=False)
    _rate: float | None = field(default=None, init=False)
    _served: int = field(default=0, init=False)
    _ttfts_seconds: list[float] = field(default_factory=list, init=False)
    _window_start: float | None = field(default=None, init=False)
    _overloaded_windows: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.limit = float(self.start)

    def admits(self, priority: int) -> bool:
        """Whether a request of this priority has room."""
        limit = self.limit
        if priority < 0:
            limit = limit * (1 + self.reserve) + 1
        elif priority > 0:
            limit = max(1.0, limit * (1 - self.reserve))
        return self.in_flight + 1 <= limit

    def begin(self, *, stream: bool) -> None:
        """A request goes to the engine."""
        self.in_flight += 1
        self._pending_streams += stream

    def first_token(self, seconds: float) -> None:
        """A stream's first token came, `seconds` after its admission."""
        self._pending_streams -= 1
        self._served += 1
        self._ttfts_seconds.append(seconds)

    def end(self, *, pending_stream: bool, served: bool) -> None:
        """A request ended: a stream before its first token, or `served` as a whole."""
        self.in_flight -= 1
        self._pending_streams -= pending_stream
        self._served += served

    def observe(self, now: float, load: EngineLoad | None) -> None:
        """Adapt, if a window has passed by `now`."""
        if self._window_start is None:
            self._window_start = now
        seconds = now - self._window_start
        if seconds < WINDOW_SECONDS:
            return
        self._window_start = now
        self._measure(seconds)
        if self.adapts:
            self._adapt(load)

    def _measure(self, seconds: float) -> None:
        rate = self._served / seconds
        if self._rate is None:
            self._rate = rate if self._served else None
        elif self._served or self.in_flight:
            self._rate += _SMOOTHING * (rate - self._rate)
        if self._ttfts_seconds and self.in_flight <= self.least / 2:
            ttft = median(self._ttfts_seconds)
            known = self.baseline_seconds
            self.baseline_seconds = ttft if known is None else known + _SMOOTHING * (ttft - known)
        self._served = 0
        self._ttfts_seconds.clear()

    def _adapt(self, load: EngineLoad | None) -> None:
        baseline = self.baseline_seconds or 0.0
        target = max(self.target_queue_seconds, 2 * baseline)
        rate, waiting = self._rate, 0 if load is None else load.waiting
        if rate is None:
            return
        if rate < 1e-9:
            self.excess_seconds = 0.0
            return
        self.excess_seconds = max(self._pending_streams / rate - baseline, waiting / rate)
        if self.excess_seconds > target:
            self._overloaded_windows += 1
            if self._overloaded_windows >= _WINDOWS_OF_OVERLOAD:
                base = min(self.limit, float(self.in_flight))
                surplus = rate * (self.excess_seconds - target)
                cut = base - min(surplus, base / 2)
                self.limit = min(self.limit, max(float(self.least), cut))
            return
        self._overloaded_windows = 0
        if self.in_flight >= 0.8 * self.limit:
            self.limit = min(float(self.ceiling), self.limit + math.sqrt(self.limit))
        elif self.limit < self.start:
            self.limit += 0.05 * (self.start - self.limit)


def concurrency_limit(args: ConcurrencyArgs, max_num_seqs: int | None) -> AdaptiveLimit:
    """The limit that `args` asks for on an engine that runs `max_num_seqs` requests at once."""
    if args.mode == "off":
        return AdaptiveLimit(least=1, start=2**31, ceiling=2**31, adapts=False)
    if args.limit is not None:
        return AdaptiveLimit(
            least=args.limit,
            start=args.limit,
            ceiling=args.limit,
            reserve=args.reserve,
            adapts=False,
        )
    usual = min(_USUAL_LEAST, max_num_seqs or _USUAL_LEAST)
    least = min(args.min or usual, args.max)
    return AdaptiveLimit(
        least=least,
        start=max(least, args.start or min(args.max, 2 * least)),
        ceiling=args.max,
        target_queue_seconds=args.target_queue_seconds,
        reserve=args.reserve,
    )
