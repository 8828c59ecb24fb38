"""Errors of predictions: relative ones as fractions, their median, 90th percentile and largest."""

from collections.abc import Iterable, Sequence
from statistics import median
from sys import float_info

_LARGEST = float_info.max


def relative_error(predicted: float, measured: object) -> float | None:
    """|predicted / measured - 1|; None where nothing above 0 was measured."""
    if isinstance(measured, bool) or not isinstance(measured, int | float):
        return None
    # Compared, not converted: a whole number may be larger than any float.
    if not 0 < measured <= _LARGEST:
        return None
    return abs(predicted / measured - 1)


def quantile(values: Sequence[float], share: float) -> float:
    """The quantile of a non-empty sequence, linear between neighbours."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def spread_of_errors(errors: Iterable[float | None]) -> dict[str, float | int | None]:
    """How many, median, 90th percentile and largest; None where there are none."""
    known = [error for error in errors if error is not None]
    if not known:
        return {"n": 0, "median": None, "p90": None, "max": None}
    return {
        "n": len(known),
        "median": median(known),
        "p90": quantile(known, 0.9),
        "max": max(known),
    }
