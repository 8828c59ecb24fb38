"""Step times of an engine under load: those with which the simulator gives what a replay gave.

Probes of an idle engine say too little: under load engine, server, proxy and client share the cores
with each other, and steps take longer. So a warm-up is replayed, and five numbers are looked for:
the three of a step, and what the front adds to a TTFT, by request and by prompt token. They are
those with the least

    sum over TTFT and TPOT of  mean | log simulated(i) - log measured(i) |

with both sorted by size, so that distributions are compared and no request has to be met by itself.
Found by Nelder and Mead's simplex over the logs, from what the probes said. The warm-up's requests
are never those that are judged.
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
_LEAST_BEGIN = (1e-4, 1e-4, 1e-6, 1e-3, 1e-5)


def distance(one: Latencies, other: Latencies) -> float:
    """See the module's docstring; (TTFT, TPOT) of as many requests each."""
    return sum(
        mean(abs(_log(a) - _log(b)) for a, b in zip(sorted(x), sorted(y), strict=True))
        for x, y in zip(one, other, strict=True)
    )


def fitted_to(
    measured: Latencies, simulate: Callable[[SetTimes], Latencies], begin: SetTimes
) -> tuple[SetTimes, float]:
    """The times with which `simulate` comes nearest to `measured`, and how near that is."""

    def of(logs: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
        return distance(measured, simulate(_times(logs.tolist())))

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
        times.front_seconds_per_token,
    )


def _times(logs: Sequence[float]) -> SetTimes:
    base, each, prefill, front, by_token = (exp(one) for one in logs)
    return SetTimes(base, each, 1 / prefill, front, by_token)


def _log(value: float) -> float:
    return log(max(_LEAST_SECONDS, value))
