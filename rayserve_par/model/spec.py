"""What a model is: its layers, heads, experts and precision, and the numbers that follow.

    parameters            sum over matrices of copies x out x in            (weights.py)
    active_parameters     the same with experts_per_token of num_experts experts; the embedding
                          counts once, as published figures do
    weight_bytes          sum over matrices of values x bits / 8 + scales   (precision.py)
    kv_bytes_per_token    layers x KV values per token and layer x bytes per value (attention.py)

Left out: multi-token-prediction layers, vision towers, and what sliding windows save: a layer
with a window is counted as if it kept every token.
"""

from dataclasses import dataclass

from rayserve_par.errors import RefusedError
from rayserve_par.model.attention import Attention
from rayserve_par.model.precision import BF16, Component, Precision
from rayserve_par.model.weights import Matrix, embedding_matrix, head_matrices, layer_matrices


@dataclass(frozen=True, slots=True)
class MoeSpec:
    """The experts of the MoE layers.

    `dense_layers` are the indices of layers that are not MoE. `shared_intermediate_size` is the
    width of all shared experts together, 0 where there are none.
    """

    num_experts: int
    experts_per_token: int
    expert_intermediate_size: int
    num_shared_experts: int = 0
    shared_intermediate_size: int = 0
    dense_layers: tuple[int, ...] = ()
    router_bias: bool = False
    expert_bias: bool = False


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model. `intermediate_size` is the dense MLP's width (0 where no layer has one)."""

    name: str
    model_type: str
    architecture: str
    num_layers: int
    hidden_size: int
    vocab_size: int
    intermediate_size: int
    attention: Attention
    max_context_tokens: int
    tied_embeddings: bool = False
    moe: MoeSpec | None = None
    sliding_window_tokens: int | None = None
    sliding_layers: tuple[int, ...] = ()
    precision: Precision = BF16

    def __post_init__(self) -> None:
        sizes = {
            "num_layers": self.num_layers,
            "hidden_size": self.hidden_size,
            "vocab_size": self.vocab_size,
            "max_context_tokens": self.max_context_tokens,
            "num_attention_heads": self.attention.num_heads,
            "num_kv_heads": self.attention.num_kv_heads,
            "head_dim": self.attention.head_dim,
        }
        for field, value in sizes.items():
            if value < 1:
                raise RefusedError(
                    f"{self.name}: {field} is {value}; it must be at least 1. Check the config."
                )
        if self.attention.num_heads % self.attention.num_kv_heads:
            raise RefusedError(
                f"{self.name}: {self.attention.num_heads} attention heads are not a multiple of "
                f"{self.attention.num_kv_heads} KV heads. Check the config."
            )

    @property
    def num_attention_heads(self) -> int:
        """Query heads."""
        return self.attention.num_heads

    @property
    def num_kv_heads(self) -> int:
        """Key and value heads; 1 for MLA's latent vector."""
        return self.attention.num_kv_heads

    @property
    def head_dim(self) -> int:
        """Values per head."""
        return self.attention.head_dim

    @property
    def is_moe(self) -> bool:
        """Whether any layer has routed experts."""
        return self.moe is not None

    def layer_is_moe(self, layer: int) -> bool:
        """Whether layer number `layer` (from 0) has routed experts."""
        return self.moe is not None and layer not in self.moe.dense_layers

    @property
    def num_moe_layers(self) -> int:
        """Layers with routed experts."""
        return sum(self.layer_is_moe(layer) for layer in range(self.num_layers))

    def matrices(self) -> tuple[tuple[int, Matrix], ...]:
        """Every matrix with the number of layers that have it."""
        moe_layers = self.num_moe_layers
        kinds = ((moe_layers, True), (self.num_layers - moe_layers, False))
        found = [
            (count, matrix)
            for count, is_moe in kinds
            if count
            for matrix in layer_matrices(self, is_moe=is_moe)
        ]
        found += [(1, embedding_matrix(self))]
        found += [(1, matrix) for matrix in head_matrices(self)]
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
        """All parameters."""
        return sum(self.parameters_by_component.values())

    @property
    def active_parameters(self) -> int:
        """Parameters that one token uses: all but the experts it is not routed to."""
        if self.moe is None:
            return self.parameters
        routed = self.parameters_by_component.get(Component.ROUTED_EXPERTS, 0)
        idle_experts = self.moe.num_experts - self.moe.experts_per_token
        return self.parameters - routed * idle_experts // self.moe.num_experts

    @property
    def weight_bytes_by_component(self) -> dict[Component, float]:
        """Stored bytes of each component, scales included."""
        totals: dict[Component, float] = {}
        for count, matrix in self.matrices():
            part = matrix.component
            totals[part] = totals.get(part, 0.0) + count * matrix.bytes_at(self.precision)
        return totals

    @property
    def weight_bytes(self) -> float:
        """Stored bytes of all weights, scales included."""
        return sum(self.weight_bytes_by_component.values())

    @property
    def bits_per_parameter(self) -> float:
        """Mean bits per parameter over all components, scales included."""
        return 8 * self.weight_bytes / self.parameters

    def kv_bytes_per_token(self, kv_dtype_bytes: float = 2.0) -> float:
        """Bytes that one token keeps in the KV cache of one copy of all layers."""
        return self.num_layers * self.attention.kv_values_per_token_per_rank(1) * kv_dtype_bytes
