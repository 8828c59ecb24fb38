"""How every matrix of one checkpoint is stored.

A matrix keeps the base format when its module is on the ignore list. Otherwise the first group
that covers it gives the format: by component (a config that says "all linear layers") or by name.
Routers, embeddings, output heads and vision towers are no "linear layers" in this sense: engines
build them without quantisation unless the config names them. Vectors never are.
Source: the layers that vLLM builds with `quant_config=None`, and its `get_quant_method`s.
"""

from dataclasses import dataclass

from rayserve_par.model.component import Component
from rayserve_par.model.matrix import Matrix
from rayserve_par.model.quantisation.patterns import NO_NAMES, NamePatterns
from rayserve_par.model.weight_format import BF16, WeightFormat

LINEAR = frozenset(
    {
        Component.ATTENTION,
        Component.RECURRENT,
        Component.DENSE_MLP,
        Component.ROUTED_EXPERTS,
        Component.SHARED_EXPERTS,
    }
)
EXPERTS = frozenset({Component.ROUTED_EXPERTS})

# Linear by component, but stored and built without quantisation: convolutions, the shared expert's
# gate, the sparse indexer's head weights, the KV compressor, projections into a latent MoE.
PLAIN_PARTS = frozenset(
    {
        "conv1d",
        "q_conv1d",
        "k_conv1d",
        "v_conv1d",
        "shared_expert_gate",
        "weights_proj",
        "indexers_proj",
        "compressor",
        "fc1_latent_proj",
        "fc2_latent_proj",
        "routed_expert_down_proj",
        "routed_expert_up_proj",
    }
)


@dataclass(frozen=True, slots=True)
class ModuleGroup:
    """Modules stored alike: those of `components`, and those that `names` covers."""

    format: WeightFormat
    components: frozenset[Component] = frozenset()
    names: NamePatterns = NO_NAMES


@dataclass(frozen=True, slots=True)
class QuantisationRules:
    """The rules of one checkpoint. `kv_cache_bits` is what "auto" means to the engine."""

    name: str
    base: WeightFormat
    groups: tuple[ModuleGroup, ...] = ()
    ignored: NamePatterns = NO_NAMES
    kv_cache_bits: float = 16.0

    def format_of(self, module: str, matrix: Matrix) -> WeightFormat:
        """How `matrix`, which the checkpoint has at `module`, is stored."""
        # A reader that knows a part to be kept in another format (float32) has set it already.
        plain = self.base if matrix.format == BF16 else matrix.format
        if not self.groups or matrix.is_vector or matrix.component is Component.NORMS:
            return plain
        if self.ignored.match(module):
            return plain
        by_name_only = not PLAIN_PARTS.isdisjoint(matrix.name.split("."))
        for group in self.groups:
            if matrix.component in group.components and not by_name_only:
                return group.format
            if group.names.match(module):
                return group.format
        return plain
