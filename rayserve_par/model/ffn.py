"""The feed-forward part of a layer: a dense MLP, or routed and shared experts.

dense          matrices = gate + up + down (3), or up + down (2) where it is not gated
routed         num_experts such MLPs of expert_intermediate_size, experts_per_token used
latent_size    where experts work on a projection of the hidden vector (Nemotron-3's
               latent MoE), its width; None: hidden_size
"""

from dataclasses import dataclass

from rayserve_par.model.component import Component
from rayserve_par.model.matrix import Matrix, Split, vector


@dataclass(frozen=True, slots=True)
class DenseMlp:
    """A dense MLP of one layer."""

    intermediate_size: int
    gated: bool = True
    bias: bool = False
    name: str = "mlp"

    def matrices(self, hidden_size: int) -> tuple[Matrix, ...]:
        """All weights, at base precision."""
        part = Component.DENSE_MLP
        found = _mlp(self.name, part, hidden_size, self.intermediate_size, gated=self.gated)
        if self.bias:
            rows = self.intermediate_size * (2 if self.gated else 1)
            found.append(vector(f"{self.name}.up_bias", part, rows, Split.COLUMNS))
            found.append(vector(f"{self.name}.down_bias", part, hidden_size, Split.WHOLE))
        return tuple(found)


@dataclass(frozen=True, slots=True)
class MoeMlp:
    """The experts of one layer. `shared_intermediate_size` is all shared experts together.

    `name`, `router_name` and `shared_name` are the checkpoint's own.

    `dense_intermediate_size` is a dense MLP that runs beside the experts in the same layer
    (gemma-4), 0 where there is none.
    """

    num_experts: int
    experts_per_token: int
    expert_intermediate_size: int
    shared_intermediate_size: int = 0
    dense_intermediate_size: int = 0
    latent_size: int | None = None
    gated: bool = True
    router_bias: bool = False
    expert_bias: bool = False
    shared_gate: bool = False
    name: str = "mlp"
    router_name: str = "gate"
    shared_name: str = "shared_experts"

    def matrices(self, hidden_size: int) -> tuple[Matrix, ...]:
        """All weights, at base precision."""
        routed, shared = Component.ROUTED_EXPERTS, Component.SHARED_EXPERTS
        width = self.latent_size or hidden_size
        inner, count = self.expert_intermediate_size, self.num_experts
        router = f"{self.name}.{self.router_name}"
        found = [Matrix(router, Component.ROUTER, count, hidden_size, Split.WHOLE)]
        if self.router_bias:
            found.append(vector(f"{router}_bias", Component.ROUTER, count, Split.WHOLE))
        if self.latent_size:
            for name, rows, columns in (
                ("fc1_latent_proj", width, hidden_size),
                ("fc2_latent_proj", hidden_size, width),
            ):
                found.append(Matrix(f"{self.name}.{name}", shared, rows, columns, Split.WHOLE))
        found += _mlp(f"{self.name}.experts.0", routed, width, inner, count, gated=self.gated)
        if self.expert_bias:
            rows = inner * (2 if self.gated else 1)
            found.append(vector(f"{self.name}.experts.up_bias", routed, rows, Split.COLUMNS, count))
            found.append(
                vector(f"{self.name}.experts.down_bias", routed, width, Split.WHOLE, count)
            )
        if self.shared_intermediate_size:
            size = self.shared_intermediate_size
            name = f"{self.name}.{self.shared_name}"
            found += _mlp(name, shared, hidden_size, size, gated=self.gated)
        if self.shared_gate:
            found.append(
                Matrix(f"{self.name}.shared_expert_gate", shared, 1, hidden_size, Split.WHOLE)
            )
        if self.dense_intermediate_size:
            size = self.dense_intermediate_size
            found += _mlp("mlp", Component.DENSE_MLP, hidden_size, size, gated=self.gated)
        return tuple(found)


Ffn = DenseMlp | MoeMlp


def _mlp(
    name: str, part: Component, hidden: int, inner: int, copies: int = 1, *, gated: bool
) -> list[Matrix]:
    found = [Matrix(f"{name}.gate_proj", part, inner, hidden, Split.COLUMNS, copies)]
    if not gated:
        found = []
    found.append(Matrix(f"{name}.up_proj", part, inner, hidden, Split.COLUMNS, copies))
    found.append(Matrix(f"{name}.down_proj", part, hidden, inner, Split.ROWS, copies))
    return found
