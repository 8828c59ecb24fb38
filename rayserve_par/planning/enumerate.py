"""The layouts that a group of nodes allows one instance of a model.

    g GPUs per node, N nodes, D GPUs per NVLink domain; n nodes that an instance takes

    TP  divisors of g and powers of two up to g and D; over nodes of a domain, whole nodes: powers
        of two of them, the fewest that hold `min_gpus`, and any whose GPUs divide the heads; the
        next power of two beyond D only to be refused
    n   n0 = the fewest nodes of `min_gpus` GPUs, up to n0 + 2; powers of two up to n0 + 8; a whole
        domain
    k   TP groups of an instance: inside a node divisors of its slots, powers of two, the fewest of
        `min_gpus`; over nodes all that n nodes hold
    k = pp x dp: a dense model's k are stages. Of an MoE every factor pair, where with DP the
        stages are whole nodes (PP is for crossing them): pp divides n, or pp = 1 or k
    EP  vLLM: 1 or all (tp x dp), and all where dp > 1; other engines: any divisor of tp x dp

More nodes than that never widen an instance: they are replicas. So the number of layouts follows
from g and D, not from N. All GPUs of an instance are of this one group.
Left out: TP of other sizes (3 of 8 GPUs), which leave GPUs of a node idle; uneven bundles.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from rayserve_par.hardware.cluster import NodeGroup
from rayserve_par.model.spec import ModelSpec
from rayserve_par.planning.layout import Layout
from rayserve_par.planning.legality import (
    RefusedLayout,
    Rules,
    hardware_reasons,
    rules_of,
)
from rayserve_par.planning.spread import spread_of

_NODES_BEYOND_NEED = 8
_NODES_ONE_BY_ONE = 2


@dataclass(frozen=True, slots=True)
class Enumeration:
    """`legal` by GPUs, ascending; `refused` one layout for each different set of reasons."""

    legal: tuple[Layout, ...]
    refused: tuple[RefusedLayout, ...]


@dataclass(frozen=True, slots=True)
class _Room:
    """The GPUs that one instance may take, and how a group's nodes offer them."""

    group: NodeGroup
    min_gpus: int
    max_gpus: int

    @property
    def fewest_nodes(self) -> int:
        return -(-self.min_gpus // self.group.gpus_per_node)

    @property
    def node_counts(self) -> tuple[int, ...]:
        """Nodes that an instance may take, where it takes whole ones."""
        first, domain = self.fewest_nodes, self.group.nodes_per_domain
        last = max(first + _NODES_BEYOND_NEED, domain)
        wanted = {*range(first, first + _NODES_ONE_BY_ONE + 1), *_powers_of_two(last), domain}
        most = min(self.group.nodes, self.max_gpus // self.group.gpus_per_node)
        return tuple(sorted(n for n in wanted if first <= n <= most))

    def tp_sizes(self, heads: int) -> tuple[int, ...]:
        """Widths of TP groups, ascending."""
        size, limit = self.group.gpus_per_node, min(self.group.tp_limit, self.max_gpus)
        inside = {*_divisors(size), *_powers_of_two(size)}
        over = range(2 * size, limit + 1, size)
        fewest, powers = self.fewest_nodes * size, {n * size for n in _powers_of_two(limit)}
        wide = {tp for tp in over if tp in powers or tp == fewest or heads % tp == 0}
        return tuple(sorted(tp for tp in inside | wide if tp <= limit))

    @property
    def tp_beyond(self) -> tuple[int, ...]:
        """The next power of two beyond the domain, where the group has the GPUs for it."""
        beyond = 2 ** self.group.tp_limit.bit_length()
        return (beyond,) if beyond <= self.max_gpus else ()

    def group_counts(self, tp: int) -> Iterator[tuple[int, int]]:
        """(TP groups of an instance, nodes it takes), without what `min_gpus` excludes."""
        slots = self.group.gpus_per_node // tp
        if slots:
            fewest = -(-self.min_gpus // tp)
            for count in sorted({*_divisors(slots), *_powers_of_two(slots), fewest}):
                if count <= slots and tp * count <= self.max_gpus:
                    yield count, 1
        width = -(-tp // self.group.gpus_per_node)
        for nodes in self.node_counts:
            if nodes > 1 and nodes % width == 0:
                yield (nodes * slots if slots else nodes // width), nodes


def _divisors(number: int) -> tuple[int, ...]:
    return tuple(n for n in range(1, number + 1) if number % n == 0)


def _powers_of_two(most: int) -> tuple[int, ...]:
    return tuple(2**n for n in range(most.bit_length()) if 2**n <= most)


def _expert_groups(tp: int, dp: int, engine: str) -> tuple[int, ...]:
    width = tp * dp
    if engine != "vllm":
        return _divisors(width)
    return (width,) if dp > 1 else tuple(sorted({1, width}))


def _layouts(rules: Rules, room: _Room, tp: int, engine: str) -> Iterator[Layout]:
    for count, nodes in room.group_counts(tp):
        if not rules.experts:
            yield Layout(tp=tp, pp=count)
            continue
        for pp in _divisors(count):
            dp = count // pp
            if pp in (1, count) or nodes % pp == 0:
                for ep in _expert_groups(tp, dp, engine):
                    yield Layout(tp=tp, pp=pp, dp=dp, ep=ep)


def _no_room(layout: Layout, group: NodeGroup) -> tuple[str, ...]:
    """Whole TP groups may not fit what is left of each domain, though the nodes would do."""
    if layout.tp <= group.gpus_per_node:
        return ()
    spread = spread_of(layout, group, "auto")
    return () if spread.instances else (spread.arithmetic,)


def _too_few(tp: int, room: _Room) -> RefusedLayout:
    reason = (
        f"an instance of fewer than {room.min_gpus} GPUs cannot hold the model's weights: "
        f"{tp} < {room.min_gpus}"
    )
    return RefusedLayout(Layout(tp=tp), (reason,))


def enumerate_layouts(
    model: ModelSpec,
    group: NodeGroup,
    *,
    engine: str = "vllm",
    min_gpus: int = 1,
    max_gpus_per_instance: int | None = None,
) -> Enumeration:
    """Every layout worth judging, and those refused with their reasons.

    `min_gpus` is a lower bound of the GPUs that hold the weights; smaller layouts are refused in
    one line and not listed. An instance takes at most `max_gpus_per_instance` GPUs, and at most
    the group's. Memory is judged by sizing, not here.
    """
    room = _Room(group, max(1, min_gpus), min(group.gpus, max_gpus_per_instance or group.gpus))
    rules = rules_of(model)
    refused: dict[tuple[str, ...], RefusedLayout] = {}
    legal: set[Layout] = set()
    sizes = room.tp_sizes(model.num_attention_heads)
    small = [tp for tp in sizes if tp < room.min_gpus]
    if small:
        one = _too_few(small[-1], room)
        refused[one.reasons] = one
    for tp in (*sizes, *room.tp_beyond):
        alone = (*hardware_reasons(Layout(tp=tp), group), *rules.against_tp(tp))
        if alone:
            refused.setdefault(alone, RefusedLayout(Layout(tp=tp), alone))
            continue
        for layout in _layouts(rules, room, tp, engine):
            if layout.gpus < room.min_gpus or layout in legal:
                continue
            reasons = rules.against(layout, group, engine=engine) or _no_room(layout, group)
            if reasons:
                refused.setdefault(reasons, RefusedLayout(layout, reasons))
            else:
                legal.add(layout)
    ordered = sorted(legal, key=lambda layout: (layout.gpus, layout))
    return Enumeration(tuple(ordered), tuple(refused.values()))
