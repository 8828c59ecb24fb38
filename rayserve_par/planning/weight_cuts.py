"""Which weights parallelism cuts, and whether a cut falls between values and between blocks.

    a rank's share = features / ranks         ranks: tp; moe_tp for routed experts; 1 for shared
                                              experts where the engine keeps them whole
    COLUMNS        features = out, block = the format's rows
    ROWS           features = in, block = the format's columns
    KV_HEADS       features = out, ranks = min(tp, heads): beyond that, heads are repeated

Left aside: a matrix narrower than one block (no engine holds it quantised so, even uncut), and KV
heads wider than a block but not whole blocks, such as MiMo-V2's of 192 values: their scales are
stored by heads, and vLLM loads them (`_maybe_allow_fp8_block_shape_mismatch` in
vllm/model_executor/layers/linear.py; https://github.com/vllm-project/vllm/pull/30836).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from rayserve_par.model.component import Component
from rayserve_par.model.matrix import Matrix, Split
from rayserve_par.model.spec import ModelSpec
from rayserve_par.planning.layout import Layout
from rayserve_par.sizing.rank_weights import RankSplit

_CUT = (Split.COLUMNS, Split.ROWS, Split.KV_HEADS)


@dataclass(frozen=True, slots=True)
class Cut:
    """A dimension of `features` values that ranks share, in blocks of `block` (1: none).

    `repeated_heads` is how many ranks can differ at most, 0 where all do.
    """

    component: Component
    matrix: str
    features: int
    block: int
    format: str
    repeated_heads: int = 0

    def ranks(self, layout: Layout) -> int:
        """How many ranks of `layout` hold different parts."""
        if self.component is Component.ROUTED_EXPERTS:
            return layout.moe_tp
        split = RankSplit(tp=layout.tp, pp=layout.pp, dp=layout.dp, ep=layout.ep)
        if self.component is Component.SHARED_EXPERTS and split.shared_experts_whole:
            return 1
        return min(layout.tp, self.repeated_heads or layout.tp)

    def against_blocks(self, layout: Layout) -> Iterator[str]:
        """The reason, where a rank's share is no whole number of blocks."""
        ranks = self.ranks(layout)
        share, rest = divmod(self.features, ranks)
        if ranks == 1 or rest or share % self.block == 0 or self.features < self.block:
            return
        yield (
            f"{self._name}: {self.features} / {self._over(layout)} {ranks} = {share} is not a "
            f"multiple of the {self.format} block of {self.block}: {share} / {self.block} = "
            f"{quotient(share, self.block)}"
        )

    def against_division(self, layout: Layout) -> Iterator[str]:
        """The reason, where ranks do not divide the dimension."""
        ranks = self.ranks(layout)
        if self.features % ranks:
            yield (
                f"{self._name}: {self.features} values are not divisible by {self._over(layout)} "
                f"{ranks}: {self.features} / {ranks} = {quotient(self.features, ranks)}"
            )

    @property
    def _name(self) -> str:
        return f"{self.component.value} ({self.matrix})"

    def _over(self, layout: Layout) -> str:
        expert = self.component is Component.ROUTED_EXPERTS
        return layout.expert_ranks_name if expert else "TP"


def quotient(number: int, divisor: int) -> str:
    """Their quotient to two decimals, for the arithmetic in a reason."""
    return f"{round(number / divisor, 2):.15g}"


def _cut(matrix: Matrix) -> Cut | None:
    if matrix.split not in _CUT:
        return None
    by_rows = matrix.split is not Split.ROWS
    kept = matrix.format
    block = kept.block_rows if by_rows else kept.block_columns
    bound = kept.is_quantised and not kept.pads_blocks and not matrix.is_vector
    by_heads = matrix.split is Split.KV_HEADS and matrix.head_features > block
    bound = bound and not (by_heads and matrix.head_features % block)
    features = matrix.out_features if by_rows else matrix.in_features
    heads = features // matrix.head_features if matrix.split is Split.KV_HEADS else 0
    name = matrix.name.rpartition(".")[2]
    return Cut(matrix.component, name, features, block if bound else 1, kept.name, heads)


def cuts_of(model: ModelSpec) -> tuple[Cut, ...]:
    """Every different cut of the model's layers, each under the first matrix that has it."""
    found: dict[tuple[Component, int, int, int], Cut] = {}
    for layer, _ in model.layer_counts:
        for matrix in layer.matrices:
            cut = _cut(matrix)
            if cut:
                key = (cut.component, cut.features, cut.block, cut.repeated_heads)
                found.setdefault(key, cut)
    return tuple(found.values())
