"""What a user asks of the planner: a target, a workload, or an explicit layout."""

from dataclasses import dataclass
from enum import StrEnum
from math import isfinite
from typing import Literal

from rayserve_par.errors import RefusedError
from rayserve_par.planning.layout import Layout

MINIMUM_REQUEST_TOKENS = 2048
"""The request that must fit where no max_model_len is given."""

DEFAULT_TTFT_SECONDS = 2.0
DEFAULT_TPOT_SECONDS = 0.05


class Target(StrEnum):
    """What the best layout is.

    BALANCED: the fewest GPUs per instance that meet the limits, then replicas. LATENCY: the
    lowest TPOT of one stream. THROUGHPUT: the most tokens per second and GPU within the limits.
    COST: the fewest dollars per million tokens within the limits. RATE: the fewest GPUs that carry
    the workload's requests per second within the limits.
    """

    BALANCED = "balanced"
    LATENCY = "latency"
    THROUGHPUT = "throughput"
    COST = "cost"
    RATE = "rate"


@dataclass(frozen=True, slots=True)
class Workload:
    """The requests to serve: `isl` and `osl` in tokens, limits in seconds, rate per second.

    A limit of None takes the default: TTFT 2 s, TPOT 50 ms. Raises RefusedError for what is not
    positive.
    """

    isl: int = 1024
    osl: int = 256
    requests_per_second: float | None = None
    ttft_seconds: float | None = None
    tpot_seconds: float | None = None

    def __post_init__(self) -> None:
        for name, value in (
            ("ISL", self.isl),
            ("OSL", self.osl),
            ("rate", self.requests_per_second),
            ("TTFT limit", self.ttft_seconds),
            ("TPOT limit", self.tpot_seconds),
        ):
            if value is not None and not (isfinite(value) and value > 0):
                raise RefusedError(f"workload: {name} is {value:g}; it must be above 0 and finite.")

    @property
    def tokens(self) -> int:
        """Tokens of one request, prompt and output."""
        return self.isl + self.osl

    @property
    def ttft_limit(self) -> float:
        """Seconds to the first token that are allowed."""
        return self.ttft_seconds or DEFAULT_TTFT_SECONDS

    @property
    def tpot_limit(self) -> float:
        """Seconds per output token that are allowed."""
        return self.tpot_seconds or DEFAULT_TPOT_SECONDS

    @property
    def label(self) -> str:
        """Such as "ISL 1024, OSL 256, TTFT <= 2 s, TPOT <= 50 ms"."""
        rate = self.requests_per_second
        asked = "" if rate is None else f", {rate:g} requests/s"
        return (
            f"ISL {self.isl}, OSL {self.osl}, TTFT <= {self.ttft_limit:g} s, "
            f"TPOT <= {1e3 * self.tpot_limit:g} ms{asked}"
        )


@dataclass(frozen=True, slots=True)
class LayoutRequest:
    """An explicit layout, obeyed or refused.

    `across` "nodes" puts every TP group on a node of its own; "auto" keeps an instance that fits
    one node on one node.
    """

    tp: int = 1
    pp: int = 1
    dp: int = 1
    ep: int = 1
    across: Literal["auto", "nodes"] = "auto"

    @property
    def layout(self) -> Layout:
        """The layout asked for. Raises RefusedError where it is not one."""
        return Layout(tp=self.tp, pp=self.pp, dp=self.dp, ep=self.ep)
