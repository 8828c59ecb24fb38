"""Step times of an engine under load: those with which the simulator gives what a replay gave.

Probes of an idle engine say too little: under load engine, server, proxy and client share the cores
with each other, and everything takes longer. So warm-ups are replayed, and five numbers are looked
for: the three of a step, and what the front adds to a TTFT, by itself and for every other request
that gets tokens meanwhile. They are those with the least

    mean over warm-ups of  sum over TTFT and TPOT of  mean | log simulated(i) - log measured(i) |

with both sorted by size, so that distributions are compared and no request has to be met by itself.
Found by Nelder and Mead's simplex over the logs, from what the probes said. The warm-ups' requests
are never those that are judged. They should differ in how dense they are, or what grows with load
cannot be told from what is always there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import exp, inf, log
from statistics import mean

import numpy as np
from scipy.optimize import minimize

from benchmarks.autoscaling.set_times import SetTimes

Latencies = tuple[Sequence[float], Sequence[float]]
_LEAST_SECONDS = 1e-6
# A simplex that has shrunk too early begins anew where it is.
_ROUNDS, _EVALUATIONS = 3, 200
# Where the search begins at the least, in seconds: from a number near 0 it would never come back.
_LEAST_BEGIN = (1e-4, 1e-4, 1e-6, 1e-3, 2e-4)


def distance(one: Latencies, other: Latencies) -> float:
    """See the module's docstring; (TTFT, TPOT) of as many requests each."""
    return sum(
        mean(abs(_log(a) - _log(b)) for a, b in zip(sorted(x), sorted(y), strict=True))
        for x, y in zip(one, other, strict=True)
    )


def fitted_to(
    measured: Sequence[Latencies],
    simulate: Sequence[Callable[[SetTimes], Latencies]],
    begin: SetTimes,
) -> tuple[SetTimes, float]:
    """The times with which the simulations come nearest to what was measured, and how near."""

    def of(logs: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
        times = _times(logs.tolist())
        return mean(distance(a, one(times)) for a, one in zip(measured, simulate, strict=True))

    best = np.array([_log(one) for one in map(max, _numbers(begin), _LEAST_BEGIN)])
    away = inf
    for _ in range(_ROUNDS):
        found = minimize(
            of, best, method="Nelder-Mead", options={"maxfev": _EVALUATIONS, "fatol": 1e-4}
        )
        best, away = found.x, float(found.fun)
    return _times(best.tolist()), away


def _numbers(times: SetTimes) -> tuple[float, ...]:
    return (
        times.base_seconds,
        times.seconds_per_sequence,
        1 / times.prefill_tokens_per_second,
        times.front_seconds,
        times.front_seconds_per_running,
    )


def _times(logs: Sequence[float]) -> SetTimes:
    base, each, prefill, front, busy = (exp(one) for one in logs)
    return SetTimes(base, each, 1 / prefill, front, busy)


def _log(value: float) -> float:
    return log(max(_LEAST_SECONDS, value))
