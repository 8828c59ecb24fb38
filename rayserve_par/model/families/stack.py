"""The usual model: one mixer and one feed-forward part in every layer, with norms around them.

An MTP layer is a layer like the last one (full attention, an index of its own), with three more
norms and the projection of the joined hidden state and embedding.
Source: vllm/model_executor/models/{deepseek_mtp,mimo_mtp,glm4_moe_mtp,qwen3_5_mtp}.py.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from rayserve_par.model.component import Component
from rayserve_par.model.families.family import Config, LayerShape, Skeleton, layer_norms
from rayserve_par.model.families.fields import integer
from rayserve_par.model.ffn import Ffn
from rayserve_par.model.matrix import Matrix, Split
from rayserve_par.model.mixers.attention import GqaAttention, MlaAttention
from rayserve_par.model.mixers.mixer import Mixer

MixersReader = Callable[[Config, str], tuple[Mixer, ...]]
FfnsReader = Callable[[Config, str], tuple[Ffn, ...]]


@dataclass(frozen=True, slots=True)
class Stack:
    """A reader: all mixers, all feed-forward parts, and how many norms a layer has."""

    mixers: MixersReader
    ffns: FfnsReader
    norms: int = 2
    mtp_fields: tuple[str, ...] = ("num_nextn_predict_layers",)

    def __call__(self, config: Config, name: str) -> Skeleton:
        """The layers, and MTP layers where the config has them."""
        norms = layer_norms(integer(config, name, "hidden_size"), self.norms)
        pairs = zip(self.mixers(config, name), self.ffns(config, name), strict=True)
        layers = tuple(LayerShape(mixer, ffn, norms) for mixer, ffn in pairs)
        count = next((config[field] for field in self.mtp_fields if config.get(field)), 0)
        return Skeleton(layers, (mtp_layer(layers[-1], config, name),) * count)


def mtp_layer(block: LayerShape, config: Config, name: str) -> LayerShape:
    """The MTP layer of a model whose layers are like `block`."""
    hidden, mixer = integer(config, name, "hidden_size"), block.mixer
    if isinstance(mixer, GqaAttention):
        mixer = replace(mixer, window_tokens=None)
    elif isinstance(mixer, MlaAttention) and mixer.index:
        mixer = replace(mixer, index=replace(mixer.index, is_shared=False))
    joined = Matrix("eh_proj", Component.HEAD, hidden, 2 * hidden, Split.WHOLE)
    return LayerShape(mixer, block.ffn, (*block.others, *layer_norms(hidden, 3), joined))
