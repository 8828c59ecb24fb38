"""What a user asks of the planner: a target, or an explicit layout."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from rayserve_par.planning.layout import Layout

MINIMUM_REQUEST_TOKENS = 2048
"""The request that must fit where no max_model_len is given."""


class Target(StrEnum):
    """THROUGHPUT: the fewest GPUs per instance. LATENCY: the widest TP inside a node."""

    THROUGHPUT = "throughput"
    LATENCY = "latency"


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
