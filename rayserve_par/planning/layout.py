"""The parallel layout of one instance.

GPUs = tp x pp x dp        ranks of one stage = tp x dp
ep divides tp x dp         the experts' own tensor split: moe_tp = tp x dp / ep
TP groups = pp x dp        one per (DP rank, PP stage)
"""

from dataclasses import dataclass

from rayserve_par.errors import RefusedError


@dataclass(frozen=True, slots=True, order=True)
class Layout:
    """(tp, pp, dp, ep) of an instance. Raises RefusedError where ep does not divide tp x dp."""

    tp: int = 1
    pp: int = 1
    dp: int = 1
    ep: int = 1

    def __post_init__(self) -> None:
        for name, value in (("tp", self.tp), ("pp", self.pp), ("dp", self.dp), ("ep", self.ep)):
            if value < 1:
                raise RefusedError(f"layout: {name} is {value}; it must be at least 1.")
        ranks = self.tp * self.dp
        if ranks % self.ep:
            legal = "EP 1" if ranks == 1 else f"EP 1 or EP {ranks}"
            raise RefusedError(
                f"layout: EP {self.ep} does not divide TP x DP = {self.tp} x {self.dp} = "
                f"{ranks}. Use {legal}."
            )

    @property
    def gpus(self) -> int:
        """GPUs of one instance."""
        return self.tp * self.pp * self.dp

    @property
    def moe_tp(self) -> int:
        """Ranks that share the tensors of one expert."""
        return self.tp * self.dp // self.ep

    @property
    def expert_ranks_name(self) -> str:
        """What a message calls those ranks: "TP", or "MoE TP" where they are others."""
        return "TP" if self.moe_tp == self.tp else "MoE TP"

    @property
    def tp_groups(self) -> int:
        """TP groups of one instance: one per DP rank and PP stage."""
        return self.pp * self.dp

    @property
    def ranks_per_dp_rank(self) -> int:
        """Ranks in the world of one DP rank."""
        return self.tp * self.pp

    @property
    def label(self) -> str:
        """Such as "TP8PP2", "TP8DP2EP16", "TP1"; parts of 1 are left out."""
        parts = [("TP", self.tp), ("PP", self.pp), ("DP", self.dp), ("EP", self.ep)]
        return "".join(f"{name}{n}" for name, n in parts if n > 1) or "TP1"
