"""What a family's reader gives back: the model's parts, before quantisation is resolved.

A family is one module of this folder with one reader, `(text_config, name) -> Skeleton`; the
table in `__init__.py` maps every `model_type` to its reader.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rayserve_par.model.component import Component
from rayserve_par.model.ffn import Ffn
from rayserve_par.model.matrix import Matrix, Split, vector
from rayserve_par.model.mixers.mixer import Mixer

Config = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class LayerShape:
    """A layer before quantisation. `others` are its norms and whatever is in neither part."""

    mixer: Mixer | None
    ffn: Ffn | None
    others: tuple[Matrix, ...]

    def matrices(self, hidden_size: int) -> tuple[Matrix, ...]:
        """All weights, at base precision."""
        mixer = self.mixer.matrices(hidden_size) if self.mixer else ()
        ffn = self.ffn.matrices(hidden_size) if self.ffn else ()
        return (*self.others, *mixer, *ffn)


@dataclass(frozen=True, slots=True)
class Skeleton:
    """All layers of a model. `layer_prefix` is where the checkpoint keeps layer n: PREFIX.n.

    `kv_cache_bits` is set where the engine keeps this family's cache in one format, whatever the
    checkpoint says.
    """

    layers: tuple[LayerShape, ...]
    mtp_layers: tuple[LayerShape, ...] = ()
    layer_prefix: str = "model.layers"
    kv_cache_bits: float | None = None


Reader = Callable[[Config, str], Skeleton]


def layer_norms(hidden_size: int, copies: int = 2) -> tuple[Matrix, ...]:
    """The norms around a layer's two parts."""
    return (vector("norms", Component.NORMS, hidden_size, Split.WHOLE, copies),)
