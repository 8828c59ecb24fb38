"""Traces: arrivals out of text, and more of them by a factor.

Text: a header and one line for each request, TIMESTAMP,ContextTokens,GeneratedTokens, as in Azure's
published traces (https://github.com/Azure/AzurePublicDataset). A timestamp is "YYYY-MM-DD
HH:MM:SS.fraction" or a number of seconds; the first request is at 0.

Factor F takes the trace's rate times F; its length stays. Every request comes floor(F) times, and
once more with a chance of F - floor(F):
    users   each copy of the trace is shifted by an offset of its own, drawn evenly from the
            trace's length and wrapped at its end: F users with the habits of one, not in step
    shape   each copy of a request is moved by up to half a second: one user, F times as large
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Literal

from rayserve_par.control.simulate.request import Arrival, in_order
from rayserve_par.errors import RefusedError

Draw = Callable[[], float]
"""A number drawn evenly from [0, 1); seeded by the caller."""

Scaling = Literal["users", "shape"]

COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
_SHAPE_SECONDS = 0.5
_LARGEST_FACTOR = 10_000
_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)[ T](\d\d):(\d\d):(\d\d(?:\.\d+)?)(?:Z|\+00:00)?")


def parse_trace(text: str, name: str) -> tuple[Arrival, ...]:
    """The requests of a trace, in order of time.

    Raises:
        RefusedError: a column lacks, a line is not one, or there are no requests; with the line.
    """
    lines = text.splitlines()
    header = [part.strip() for part in lines[0].lstrip("\ufeff").split(",")] if lines else []
    lacking = [column for column in COLUMNS if column not in header]
    if lacking:
        raise RefusedError(
            f"trace {name}: its first line is {','.join(header)[:100]!r}, without "
            f"{', '.join(lacking)}. A trace is a CSV with the columns {','.join(COLUMNS)}."
        )
    places = [header.index(column) for column in COLUMNS]
    found = [
        _arrival(line, places, f"trace {name}, line {number}")
        for number, line in enumerate(lines[1:], start=2)
        if line.strip()
    ]
    if not found:
        raise RefusedError(f"trace {name} has no requests. Give at least one line below the header")
    first = min(one.seconds for one in found)
    return in_order([Arrival(one.seconds - first, one.isl, one.osl) for one in found])


def _arrival(line: str, places: Sequence[int], where: str) -> Arrival:
    parts = [part.strip() for part in line.split(",")]
    if len(parts) <= max(places):
        raise RefusedError(f"{where}: {line[:100]!r} has {len(parts)} fields; a field is missing.")
    stamp, isl, osl = (parts[place] for place in places)
    tokens = []
    for column, value in zip(COLUMNS[1:], (isl, osl), strict=True):
        if not value.isdigit() or int(value) < 1:
            raise RefusedError(f"{where}: {column} is {value!r}; it must be a number from 1 on.")
        tokens.append(int(value))
    return Arrival(_seconds(stamp, where), tokens[0], tokens[1])


def _seconds(stamp: str, where: str) -> float:
    found = _TIME.fullmatch(stamp)
    if found is None:
        if re.fullmatch(r"\d+(\.\d+)?", stamp):
            return float(stamp)
        raise RefusedError(
            f"{where}: TIMESTAMP is {stamp[:60]!r}. Write YYYY-MM-DD HH:MM:SS.fraction, or seconds."
        )
    year, month, day, hour, minute = (int(part) for part in found.groups()[:5])
    return 86400.0 * _day(year, month, day) + 3600 * hour + 60 * minute + float(found[6])


def _day(year: int, month: int, day: int) -> int:
    """Days since 0000-03-01 of the Gregorian calendar, March counted as the first month."""
    year, month = (year, month - 3) if month > 2 else (year - 1, month + 9)
    return 365 * year + year // 4 - year // 100 + year // 400 + (153 * month + 2) // 5 + day - 1


def scaled(
    arrivals: Sequence[Arrival], factor: float, scaling: Scaling, draw: Draw
) -> tuple[Arrival, ...]:
    """The trace with `factor` times its rate. Raises RefusedError for a factor that is not."""
    if not 0 < factor <= _LARGEST_FACTOR:
        raise RefusedError(f"scale {factor:g}: give a factor above 0, at most {_LARGEST_FACTOR:,}.")
    if factor == 1 or not arrivals:
        return in_order(arrivals)
    length = arrivals[-1].seconds or 1.0
    whole, rest = int(factor), factor - int(factor)
    found: list[Arrival] = []
    for copy in range(whole + (rest > 0)):
        kept = 1.0 if copy < whole else rest
        offset = draw() * length if scaling == "users" else 0.0
        for one in arrivals:
            if kept < 1.0 and draw() >= kept:
                continue
            moved = offset if scaling == "users" else (2 * draw() - 1) * _SHAPE_SECONDS
            found.append(Arrival((one.seconds + moved) % length, one.isl, one.osl))
    return in_order(found)
