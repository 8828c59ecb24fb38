"""What a model is: its layers and weights, and the numbers that follow.

    parameters            sum over matrices of copies x out x in       (vision tower included)
    active_parameters     the same with experts_per_token of num_experts experts
    weight_bytes          sum over matrices of stored bytes, scales included
    kv_bytes_per_token    sum over layers of KV values per token x kv_cache_bits / 8 + index bytes

Left out of all of them: multi-token-prediction layers (`mtp_layers`), which an engine loads only
for speculative decoding.
"""

from collections import Counter
from dataclasses import dataclass

from rayserve_par.errors import RefusedError
from rayserve_par.model.component import Component
from rayserve_par.model.ffn import DenseMlp, MoeMlp
from rayserve_par.model.layer import Layer
from rayserve_par.model.matrix import Matrix
from rayserve_par.model.mixers.mixer import Mixer, kv_bytes_per_token_per_rank
from rayserve_par.model.weight_format import WeightFormat


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model.

    `embedding` is held by the first PP stage (and, tied, by the last as well), `head` (final norm
    and untied output head) by the last. `vision` is the whole tower with its projector.
    """

    name: str
    model_type: str
    architecture: str
    hidden_size: int
    vocab_size: int
    max_context_tokens: int
    layers: tuple[Layer, ...]
    embedding: Matrix
    head: tuple[Matrix, ...]
    tied_embeddings: bool = False
    vision: tuple[Matrix, ...] = ()
    mtp_layers: tuple[Layer, ...] = ()
    kv_cache_bits: float = 16.0

    def __post_init__(self) -> None:
        sizes = {
            "number of layers": len(self.layers),
            "hidden_size": self.hidden_size,
            "vocab_size": self.vocab_size,
            "context": self.max_context_tokens,
        }
        for field, value in sizes.items():
            if value < 1:
                raise RefusedError(
                    f"{self.name}: {field} is {value}; it must be at least 1. Check the config."
                )

    @property
    def num_layers(self) -> int:
        """Layers of the language model, without MTP."""
        return len(self.layers)

    @property
    def layer_counts(self) -> tuple[tuple[Layer, int], ...]:
        """Every different layer with how often it occurs, in order of first appearance.

        The reader gives equal layers as one object, so identity stands for equality here.
        """
        by_id = {id(layer): layer for layer in self.layers}
        counts = Counter(map(id, self.layers))
        return tuple((layer, counts[key]) for key, layer in by_id.items())

    @property
    def mixers(self) -> tuple[Mixer, ...]:
        """The different token mixers, in order of first appearance."""
        return tuple(dict.fromkeys(layer.mixer for layer in self.layers if layer.mixer))

    @property
    def moe(self) -> MoeMlp | None:
        """The experts of the first MoE layer; None for a dense model."""
        return next((layer.moe for layer in self.layers if layer.moe), None)

    @property
    def is_moe(self) -> bool:
        """Whether any layer has routed experts."""
        return self.moe is not None

    @property
    def dense_mlps(self) -> tuple[DenseMlp, ...]:
        """The different dense MLPs."""
        found = (layer.ffn for layer in self.layers if isinstance(layer.ffn, DenseMlp))
        return tuple(dict.fromkeys(found))

    @property
    def num_attention_heads(self) -> int:
        """Query heads of the first mixer that has a KV cache (any mixer where none has)."""
        with_cache = [mixer for mixer in self.mixers if mixer.num_kv_heads]
        return (with_cache or list(self.mixers))[0].num_heads

    def matrices(self) -> tuple[tuple[int, Matrix], ...]:
        """Every matrix with the number of layers that have it."""
        found = [(count, m) for layer, count in self.layer_counts for m in layer.matrices]
        found.append((1, self.embedding))
        found += [(1, matrix) for matrix in (*self.head, *self.vision)]
        return tuple(found)

    @property
    def parameters_by_component(self) -> dict[Component, int]:
        """Parameters of each component in the whole model."""
        totals: dict[Component, int] = {}
        for count, matrix in self.matrices():
            part = matrix.component
            totals[part] = totals.get(part, 0) + count * matrix.parameters
        return totals

    @property
    def parameters(self) -> int:
        """All parameters, without MTP layers."""
        return sum(self.parameters_by_component.values())

    @property
    def active_parameters_by_component(self) -> dict[Component, int]:
        """Parameters that one token uses: all but the experts it is not routed to."""
        totals = self.parameters_by_component
        idle = 0
        for layer, count in self.layer_counts:
            if layer.moe is None:
                continue
            routed = sum(
                m.parameters for m in layer.matrices if m.component is Component.ROUTED_EXPERTS
            )
            unused = layer.moe.num_experts - layer.moe.experts_per_token
            idle += count * routed * unused // layer.moe.num_experts
        if idle:
            totals[Component.ROUTED_EXPERTS] -= idle
        return totals

    @property
    def active_parameters(self) -> int:
        """Parameters that one token uses, the embedding table counted whole."""
        return sum(self.active_parameters_by_component.values())

    @property
    def weight_bytes_by_component(self) -> dict[Component, float]:
        """Stored bytes of each component, scales included."""
        totals: dict[Component, float] = {}
        for count, matrix in self.matrices():
            part = matrix.component
            totals[part] = totals.get(part, 0.0) + count * matrix.weight_bytes
        return totals

    @property
    def weight_bytes(self) -> float:
        """Stored bytes of all weights, scales included."""
        return sum(self.weight_bytes_by_component.values())

    @property
    def weight_format(self) -> WeightFormat:
        """The format that holds most parameters."""
        totals: Counter[WeightFormat] = Counter()
        for count, matrix in self.matrices():
            totals[matrix.format] += count * matrix.parameters
        return totals.most_common(1)[0][0]

    @property
    def bits_per_parameter(self) -> float:
        """Mean bits per parameter over all components, scales included."""
        return 8 * self.weight_bytes / self.parameters

    @property
    def kv_bytes_per_token(self) -> float:
        """Bytes that one token adds to the KV cache of one copy of all layers, at TP 1."""
        return sum(
            count * kv_bytes_per_token_per_rank(layer.mixer, 1, self.kv_cache_bits)
            for layer, count in self.layer_counts
            if layer.mixer
        )
