"""One layer: its token mixer, its feed-forward part, and all its weight matrices.

`matrices` is stored, not derived: quantisation differs by layer in some checkpoints, so the
reader resolves every matrix's format once.
"""

from dataclasses import dataclass

from rayserve_par.model.ffn import Ffn, MoeMlp
from rayserve_par.model.matrix import Matrix
from rayserve_par.model.mixers.mixer import Mixer


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer. `mixer` or `ffn` is None where a layer has only the other (hybrids, pruned)."""

    mixer: Mixer | None
    ffn: Ffn | None
    matrices: tuple[Matrix, ...]

    @property
    def moe(self) -> MoeMlp | None:
        """The experts; None in a dense layer."""
        return self.ffn if isinstance(self.ffn, MoeMlp) else None
