"""Which layout an instance takes on one kind of node: the first that is legal and fits.

In this order, with sizes g as the hardware offers them (powers of two and the whole node):

    1  TP inside a node: g from the rule of thumb's size upwards (LATENCY: from the widest
       downwards). Where tensors of an MoE cannot be cut so, the same TP with EP = TP.
    2  PP inside a node, where no TP is: TP t x PP g/t, widest legal t first.
    3  Over n nodes, from the rule's number upwards. MoE: TP = GPUs per node, DP = n, EP = all.
       Dense: TP = GPUs per node, PP = n. Where that TP is illegal, the next smaller divisor.

A candidate fits when the rule of thumb's VRAM and, on its fullest rank, weights + reserve + KV of
one request are within memory. More nodes than needed never widen an instance: they are replicas.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from rayserve_par.errors import RefusedError
from rayserve_par.hardware.cluster import NodeGroup
from rayserve_par.model.spec import ModelSpec
from rayserve_par.planning.layout import Layout
from rayserve_par.planning.legality import illegal, split_of
from rayserve_par.planning.request import Target
from rayserve_par.sizing.rank_memory import RankMemory, worst_rank_memory
from rayserve_par.sizing.rule_of_thumb import RuleOfThumb, instance_sizes, size_by_rule


@dataclass(frozen=True, slots=True)
class RefusedLayout:
    """A candidate that was not taken, and every reason."""

    layout: Layout
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Need:
    """What a candidate must hold: the model, its KV allowance and one request."""

    model: ModelSpec
    kv_allowance: float
    request_tokens: int
    gpu_memory_utilization: float

    def rule(self, group: NodeGroup) -> RuleOfThumb:
        """The rule of thumb on these nodes."""
        return size_by_rule(self.model, group.gpu, group.gpus_per_node, self.kv_allowance)

    def memory(self, layout: Layout, group: NodeGroup) -> RankMemory:
        """The fullest rank of `layout` on these nodes."""
        return worst_rank_memory(
            self.model,
            group.gpu,
            split_of(layout),
            gpu_memory_utilization=self.gpu_memory_utilization,
        )


@dataclass(frozen=True, slots=True)
class Choice:
    """A layout for one node group, and how it was found."""

    group: NodeGroup
    layout: Layout
    reasons: tuple[str, ...]
    refused: tuple[RefusedLayout, ...]
    memory: RankMemory
    rule: RuleOfThumb


def reasons_against(need: Need, layout: Layout, group: NodeGroup) -> tuple[str, ...]:
    """Legality first, then memory on the fullest rank; empty where the layout can be."""
    against = illegal(need.model, layout, group)
    if against:
        return against
    rank = need.memory(layout, group)
    return () if rank.fits(need.request_tokens) else (rank.shortage(need.request_tokens),)


def _inside_node(need: Need, group: NodeGroup, target: Target) -> Iterator[tuple[Layout, str]]:
    first = need.rule(group).gpus
    sizes = [size for size in instance_sizes(group.gpus_per_node) if size >= first]
    latency = target is Target.LATENCY
    for size in reversed(sizes) if latency else sizes:
        if size == 1:
            yield Layout(), "fits one GPU: TP1, and further GPUs become replicas"
            continue
        which = "the widest legal TP inside a node" if latency else "the smallest legal TP"
        why = f"fits one node: TP {size} is {which} that holds the model"
        yield Layout(tp=size), why
        if need.model.is_moe:
            ep = f"{why}; whole experts are spread (EP {size}), since TP alone cannot be"
            yield Layout(tp=size, ep=size), ep
    for size in sizes:
        for tp in _divisors(size):
            if tp < size:
                why = f"no TP alone can be: PP {size // tp} x TP {tp} inside one node"
                yield from _with_pipeline(need, tp, size // tp, why)


def _over_nodes(need: Need, group: NodeGroup) -> Iterator[tuple[Layout, str]]:
    rule = need.rule(group)
    # Replicated parts make more nodes than the rule's useful only for a while.
    last = min(group.nodes, 2 * rule.nodes + 2)
    size = group.gpus_per_node
    for nodes in range(max(2, rule.nodes), last + 1):
        over = f"exceeds a node: over {nodes} nodes of {size} GPUs"
        tps = [tp for tp in _divisors(size) if tp <= group.tp_limit]
        if need.model.is_moe:
            for tp in tps:
                gpus = nodes * size
                why = f"{over}, MoE: TP {tp}, DP {gpus // tp} and EP {gpus} over all GPUs"
                yield Layout(tp=tp, dp=gpus // tp, ep=gpus), why
        for tp in tps:
            pp = nodes * size // tp
            yield from _with_pipeline(need, tp, pp, f"{over}: TP {tp} x PP {pp}")


def _with_pipeline(need: Need, tp: int, pp: int, why: str) -> Iterator[tuple[Layout, str]]:
    yield Layout(tp=tp, pp=pp), why
    if need.model.is_moe and tp > 1:
        yield Layout(tp=tp, pp=pp, ep=tp), f"{why} with EP {tp} inside each stage"


def _divisors(number: int) -> list[int]:
    return [n for n in range(number, 0, -1) if number % n == 0]


def choose(need: Need, group: NodeGroup, target: Target) -> Choice | tuple[RefusedLayout, ...]:
    """The layout for one node group; where none fits, the candidates with the reasons."""
    rule = need.rule(group)
    refused: list[RefusedLayout] = []
    seen: set[Layout] = set()
    for candidates in (_inside_node(need, group, target), _over_nodes(need, group)):
        for layout, why in candidates:
            if layout in seen:
                continue
            seen.add(layout)
            against = reasons_against(need, layout, group)
            if against:
                refused.append(RefusedLayout(layout, against))
                continue
            skipped = tuple(f"not {one.layout.label}: {one.reasons[0]}" for one in refused)
            memory = need.memory(layout, group)
            return Choice(group, layout, (*skipped, why), tuple(refused), memory, rule)
    return tuple(refused)


def missing_nodes(need: Need, group: NodeGroup, target: Target) -> str:
    """What a group that holds no instance lacks, in nodes and GPUs."""
    rule = need.rule(group)
    wider = NodeGroup(group.name, group.gpu, 2 * rule.nodes + 2, group.gpus_per_node)
    choice = choose(need, wider, target)
    if not isinstance(choice, Choice):
        return f"{group.label}: no layout fits up to {wider.nodes} nodes: {_last_reason(choice)}"
    size = group.gpus_per_node
    nodes = -(-choice.layout.gpus // size)
    lacking = nodes - group.nodes
    return (
        f"{group.label}: {choice.layout.label} would fit, on {nodes} nodes of {size} = "
        f"{nodes * size} GPUs; there are {group.nodes} = {group.gpus} GPUs: {lacking} "
        f"{'node' if lacking == 1 else 'nodes'} ({lacking * size} GPUs) missing"
    )


def _last_reason(refused: tuple[RefusedLayout, ...]) -> str:
    if not refused:
        return "the rule of thumb asks for more"
    return f"{refused[-1].layout.label}: {refused[-1].reasons[0]}"


def choose_group(
    need: Need, groups: tuple[NodeGroup, ...], target: Target
) -> tuple[Choice, tuple[str, ...]]:
    """The group whose instance takes the fewest GPUs (the first of equals), and why that one.

    Raises RefusedError where no group holds an instance, with what is missing.
    """
    found: list[Choice] = []
    without: list[str] = []
    for group in groups:
        choice = choose(need, group, target)
        if isinstance(choice, Choice):
            found.append(choice)
        else:
            without.append(missing_nodes(need, group, target))
    if not found:
        model, rules = need.model, [need.rule(group) for group in groups]
        sizes = "; ".join(line for rule in rules[:1] for line in rule.lines[:3])
        raise RefusedError(
            f"{model.name} does not fit. {sizes}. " + ". ".join(without) + ". Add nodes, take "
            "GPUs with more memory, or a checkpoint of lower precision."
        )
    best = min(found, key=lambda choice: choice.layout.gpus)
    if len(groups) == 1:
        return best, ()
    sizes = ", ".join(
        f"{choice.group.label}: {choice.layout.label} = {choice.layout.gpus} GPUs"
        for choice in found
    )
    why = f"node group {best.group.name} takes the fewest GPUs per instance ({sizes})"
    return best, (why, *without)
