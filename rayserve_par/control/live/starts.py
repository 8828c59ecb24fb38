"""How long starts take, measured: from the look that asks for an instance to the one it runs at.

    missing = target - running        a start begins whenever it grows, by what we tell Serve or
                                      because an instance is gone
    start   = when a new instance runs - when the oldest open start began

The time is the median of the last five; before there is one, what the config says. It counts all
that a start costs: placement, the process, the engine, Serve's own looks. Starts that were under
way before we looked have no known begin and are not measured. Pure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from statistics import median

_KEPT = 5


class StartTimes:
    """Open starts and the last durations, in seconds."""

    def __init__(self, hint_seconds: float) -> None:
        self._hint = hint_seconds
        self._open: deque[float | None] = deque()
        self._took: deque[float] = deque(maxlen=_KEPT)
        self._known: set[str] | None = None

    @property
    def seconds(self) -> float:
        """How long a start takes."""
        return max(1.0, median(self._took)) if self._took else self._hint

    def look(self, now_seconds: float, target: int, running: Collection[str]) -> None:
        """So many are wanted, and these run."""
        first, known = self._known is None, self._known or set()
        for name in running:
            if name not in known and not first and self._open:
                begun = self._open.popleft()
                if begun is not None:
                    self._took.append(now_seconds - begun)
        self._known = set(running)
        self._open_to(target - len(running), None if first else now_seconds)

    def told(self, now_seconds: float, number: int) -> None:
        """Serve is told to aim at so many: what is missing starts now, and may run by the next
        look."""
        self._open_to(number - len(self._known or ()), now_seconds)

    def expected(self, now_seconds: float) -> list[float]:
        """When the open starts should be over, the soonest first; never before now."""
        return [
            max(now_seconds, (now_seconds if begun is None else begun) + self.seconds)
            for begun in self._open
        ]

    def _open_to(self, missing: int, begun: float | None) -> None:
        while len(self._open) > max(0, missing):
            self._open.pop()
        while len(self._open) < missing:
            self._open.append(begun)
