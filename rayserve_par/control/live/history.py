"""Arrivals of a whole application by the second, from what each instance has counted.

An instance reports sums: so many requests and prompt tokens before second s. The difference of two
reports belongs to the seconds between them, spread evenly where there are several. So a late
report loses nothing, and a missing one is made up for by the next.

- The first report of an instance that was there before us is where its counting starts; a `young`
  one, which came later, starts from nothing, so that its first requests count as well.
- Sums tell what is new, not seconds: a report whose sum is not larger was seen before. (A process
  that starts anew has another name.)
- A second that is off by more than `_CLOCK_SECONDS` from ours is another clock's: what came since
  the last report is then put into the second that ends now.

The history ends with the last second that every instance which reports has told of, at most
`_LATEST_SECONDS` ago, so that its last bins are whole. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from rayserve_par.control.decide.state import LoadHistory

_CLOCK_SECONDS = 30
_LATEST_SECONDS = 6
# Names of instances that are gone are kept, should they come back: they must not count twice.
_NAMES = 10_000


@dataclass(frozen=True, slots=True)
class Arrivals:
    """What one instance had counted by the begin of `second`."""

    second: int
    requests: float
    prompt_tokens: float


class ArrivalSeries:
    """Requests and prompt tokens by the second over the last `seconds`."""

    def __init__(self, seconds: int) -> None:
        self._seconds = seconds
        self._begin: int | None = None
        self._requests: dict[int, float] = {}
        self._tokens: dict[int, float] = {}
        self._last: dict[str, Arrivals] = {}

    def see(self, now_seconds: float) -> None:
        """Looking began now, if it had not; call before `add`."""
        if self._begin is None:
            self._begin = int(now_seconds)

    def add(
        self, name: str, reports: Sequence[Arrivals], now_seconds: float, *, young: bool
    ) -> None:
        """Reports of one instance, oldest first; those that were added before are passed by."""
        if not reports:
            return
        last = self._last.get(name)
        if last is None:
            last = Arrivals(reports[0].second - 1, 0.0, 0.0) if young else reports[0]
        for report in reports:
            if report.requests > last.requests:
                self._between(last, report, int(now_seconds))
                last = report
            elif report.requests == last.requests and report.second > last.second:
                last = report
        self._last[name] = last
        while len(self._last) > _NAMES:
            del self._last[next(iter(self._last))]

    def add_evenly(
        self, requests: float, prompt_tokens: float, since_seconds: float, now_seconds: float
    ) -> None:
        """Arrivals of which only the time between two looks is known."""
        begin, end = int(since_seconds), max(int(since_seconds) + 1, int(now_seconds))
        self._spread(requests, prompt_tokens, begin, end)

    def history(
        self, now_seconds: float, reporting: Collection[str], isl: float, osl: float
    ) -> LoadHistory:
        """What is known now, with these mean lengths."""
        now = int(now_seconds)
        told = [self._last[name].second for name in reporting if name in self._last]
        end = max(now - _LATEST_SECONDS, min([now, *told]))
        begin = max(end if self._begin is None else self._begin, end - self._seconds)
        self._forget_before(begin)
        return LoadHistory(
            end_seconds=float(end),
            bin_seconds=1.0,
            requests=self._bins(self._requests, begin, end),
            prompt_tokens=self._bins(self._tokens, begin, end),
            isl=isl,
            osl=osl,
        )

    def _between(self, last: Arrivals, report: Arrivals, now: int) -> None:
        requests = report.requests - last.requests
        tokens = max(0.0, report.prompt_tokens - last.prompt_tokens)
        begin, end = last.second, report.second
        if end > now + _CLOCK_SECONDS or end < now - _CLOCK_SECONDS or end - begin > self._seconds:
            begin, end = now - 1, now
        self._spread(requests, tokens, min(begin, end - 1), end)

    def _spread(self, requests: float, tokens: float, begin: int, end: int) -> None:
        if not requests and not tokens:
            return
        count = end - begin
        for second in range(begin, end):
            self._requests[second] = self._requests.get(second, 0.0) + requests / count
            self._tokens[second] = self._tokens.get(second, 0.0) + tokens / count

    def _forget_before(self, begin: int) -> None:
        for second in [one for one in self._requests if one < begin]:
            del self._requests[second]
            del self._tokens[second]

    @staticmethod
    def _bins(found: dict[int, float], begin: int, end: int) -> Sequence[float]:
        return tuple(found.get(second, 0.0) for second in range(begin, end))
