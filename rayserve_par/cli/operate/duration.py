"""Durations as people write them: 90s, 30m, 2h, 1d, 1h30m."""

from __future__ import annotations

import re

from rayserve_par.errors import RefusedError

_UNIT_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhd])")


def parse_duration(text: str) -> float:
    """Seconds.

    Raises:
        RefusedError: it is none, or it is 0.
    """
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise RefusedError(
            f"{text!r} is no duration. Write numbers with units, as in 90s, 30m, 2h, 1d or 1h30m."
        )
    seconds = sum(float(number) * _UNIT_SECONDS[unit] for number, unit in parts)
    if seconds <= 0:
        raise RefusedError(f"{text!r} is no time at all; give a duration above 0.")
    return seconds
