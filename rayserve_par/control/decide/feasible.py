"""Whether a target can be held at all: the fastest layout, with one request alone, decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rayserve_par.errors import RefusedError


@dataclass(frozen=True, slots=True)
class LeastTimes:
    """A layout's TTFT and TPOT for a request that is alone, in seconds."""

    layout: str
    ttft_seconds: float
    tpot_seconds: float


def check_target(
    layouts: Sequence[LeastTimes], ttft_limit: float, tpot_limit: float, isl: float
) -> None:
    """Raises RefusedError, with the arithmetic, where no layout can hold both limits."""
    if any(one.ttft_seconds <= ttft_limit and one.tpot_seconds <= tpot_limit for one in layouts):
        return
    shown = "; ".join(
        f"{one.layout} TTFT {1e3 * one.ttft_seconds:.1f} ms "
        f"{_sign(one.ttft_seconds, ttft_limit)} {1e3 * ttft_limit:g} ms, "
        f"TPOT {1e3 * one.tpot_seconds:.2f} ms {_sign(one.tpot_seconds, tpot_limit)} "
        f"{1e3 * tpot_limit:g} ms"
        for one in layouts
    )
    raise RefusedError(
        f"no layout holds TTFT {1e3 * ttft_limit:g} ms and TPOT {1e3 * tpot_limit:g} ms even for "
        f"one request of {isl:,.0f} prompt tokens alone, whatever the number of instances: {shown}."
        " Allow more time, take faster GPUs, or a checkpoint of lower precision."
    )


def _sign(value: float, limit: float) -> str:
    return "<=" if value <= limit else ">"
