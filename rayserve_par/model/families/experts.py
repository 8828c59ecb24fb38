"""The feed-forward part of every layer, from the config's fields and the family's traits.

A layer is sparse (has experts) where `mlp_layer_types` says so; else where all of these hold, as
far as the config has them:

    layer >= first_k_dense_replace           layer mod moe_layer_freq = 0        (DeepSeek, GLM)
    (layer + 1) mod decoder_sparse_step = 0  layer not in mlp_only_layers        (Qwen)
    moe_layer_start_index <= layer <= moe_layer_end_index,
    (layer + 1) mod moe_layer_interval = 0                                       (ERNIE)
"""

from dataclasses import dataclass

from rayserve_par.errors import RefusedError
from rayserve_par.model.families.family import Config
from rayserve_par.model.families.fields import integer, num_layers
from rayserve_par.model.ffn import DenseMlp, Ffn, MoeMlp


@dataclass(frozen=True, slots=True)
class DenseTraits:
    """The MLPs of a dense family; called, it reads those of all layers."""

    gated: bool = True
    bias_field: str = "mlp_bias"

    def __call__(self, config: Config, name: str) -> tuple[Ffn, ...]:
        """The same MLP in every layer."""
        width = integer(config, name, "intermediate_size")
        mlp = DenseMlp(width, gated=self.gated, bias=bool(config.get(self.bias_field)))
        return (mlp,) * num_layers(config, name)


@dataclass(frozen=True, slots=True)
class MoeTraits:
    """The experts of a family; called, it reads the MLPs and experts of all layers.

    The tuples name the fields to look in. `shared_count` is a number of shared experts of
    `shared_each` (else the routed experts' own width), `shared_width` the width of all together.
    `dense_width` is the width of the layers that are not sparse.
    """

    experts: tuple[str, ...]
    chosen: tuple[str, ...] = ("num_experts_per_tok",)
    width: tuple[str, ...] = ("moe_intermediate_size",)
    dense_width: tuple[str, ...] = ("intermediate_size",)
    shared_count: str | None = None
    shared_each: tuple[str, ...] = ()
    shared_width: str | None = None
    shared_gate: bool = False
    router_bias: bool = False
    router_bias_field: str | None = None
    expert_bias: bool = False
    name: str = "mlp"
    router_name: str = "gate"
    shared_name: str = "shared_experts"

    def __call__(self, config: Config, name: str) -> tuple[Ffn, ...]:
        """The MLP or the experts of every layer."""
        sparse = sparse_layers(config, name)
        if not self._has_experts(config):
            sparse = (False,) * len(sparse)
        experts = self.read(config, name) if any(sparse) else None
        dense = None if all(sparse) else DenseMlp(integer(config, name, *self.dense_width))
        found = tuple(experts if is_sparse else dense for is_sparse in sparse)
        return tuple(ffn for ffn in found if ffn is not None)

    def _has_experts(self, config: Config) -> bool:
        given = [config[field] for field in self.experts if field in config]
        return not given or any(given)

    def read(self, config: Config, name: str) -> MoeMlp:
        """The experts of one sparse layer."""
        width = first_integer(config, name, *self.width)
        shared = 0
        if self.shared_count:
            each = [config[f] for f in self.shared_each if config.get(f)]
            count = config.get(self.shared_count) or 0
            shared = _first(count) * (each[0] if each else width)
        elif self.shared_width:
            shared = config.get(self.shared_width) or 0
        biased = bool(self.router_bias_field and config.get(self.router_bias_field))
        return MoeMlp(
            num_experts=first_integer(config, name, *self.experts),
            experts_per_token=first_integer(config, name, *self.chosen),
            expert_intermediate_size=width,
            shared_intermediate_size=shared,
            router_bias=self.router_bias or biased,
            expert_bias=self.expert_bias,
            shared_gate=self.shared_gate and shared > 0,
            name=self.name,
            router_name=self.router_name,
            shared_name=self.shared_name,
        )


def _first(value: int | list[int]) -> int:
    return value[0] if isinstance(value, list) else value


def first_integer(config: Config, name: str, *fields: str) -> int:
    """As `integer`; a list with one value for every layer counts as that value.

    Raises RefusedError for a list whose values differ.
    """
    for field in fields:
        value = config.get(field)
        if isinstance(value, list) and value:
            if len(set(value)) > 1:
                raise RefusedError(
                    f"{name}: {field} differs between layers ({min(value)} to {max(value)}), "
                    "which is not known of this model type."
                )
            return integer({field: value[0]}, name, field)
        if value is not None:
            break
    return integer(config, name, *fields)


def sparse_layers(config: Config, name: str) -> tuple[bool, ...]:
    """Which layers have experts."""
    count = num_layers(config, name)
    kinds = config.get("mlp_layer_types")
    if kinds:
        return tuple(kind == "sparse" for kind in kinds[:count])
    first = config.get("first_k_dense_replace") or config.get("moe_layer_start_index") or 0
    last = config.get("moe_layer_end_index")
    last = count - 1 if last is None or last < 0 else last
    frequency = config.get("moe_layer_freq") or 1
    step = config.get("decoder_sparse_step") or config.get("moe_layer_interval") or 1
    dense = set(config.get("mlp_only_layers") or ())
    return tuple(
        first <= n <= last and n % frequency == 0 and (n + 1) % step == 0 and n not in dense
        for n in range(count)
    )
