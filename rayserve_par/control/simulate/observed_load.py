"""Arrivals counted by the second, as replicas and the front report them."""

from __future__ import annotations

from rayserve_par.control.decide.state import LoadHistory

_LENGTHS_HALF_LIFE = 2000
_DEFAULT_ISL, _DEFAULT_OSL = 1024.0, 256.0


class ObservedLoad:
    """Counts of the last `history_seconds`; lengths are means that forget over ~2,000 requests."""

    def __init__(self, history_seconds: float) -> None:
        self._bins = max(1, round(history_seconds))
        self._requests: list[float] = []
        self._tokens: list[float] = []
        self._isl: float | None = None
        self._osl: float | None = None
        self._seen = self._ended = 0

    def arrived(self, seconds: float, isl: int) -> None:
        """One request arrived."""
        second = int(seconds)
        self._fill(second + 1)
        self._requests[second] += 1
        self._tokens[second] += isl
        self._seen += 1
        weight = 1 / min(self._seen, _LENGTHS_HALF_LIFE)
        self._isl = isl if self._isl is None else self._isl + (isl - self._isl) * weight

    def ended(self, osl: int) -> None:
        """One request ended, so that its output length is known."""
        self._ended += 1
        weight = 1 / min(self._ended, _LENGTHS_HALF_LIFE)
        self._osl = osl if self._osl is None else self._osl + (osl - self._osl) * weight

    def _fill(self, seconds: int) -> None:
        missing = seconds - len(self._requests)
        if missing > 0:
            self._requests += [0.0] * missing
            self._tokens += [0.0] * missing

    def history(self, now: float) -> LoadHistory:
        """What is known at `now`: whole seconds before it."""
        end = int(now)
        self._fill(end)
        first = max(0, end - self._bins)
        return LoadHistory(
            end_seconds=float(end),
            bin_seconds=1.0,
            requests=tuple(self._requests[first:end]),
            prompt_tokens=tuple(self._tokens[first:end]),
            isl=self._isl or _DEFAULT_ISL,
            osl=self._osl or _DEFAULT_OSL,
        )
