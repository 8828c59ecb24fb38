"""Whether the ranks are where the placement says, once they run.

Every violation is one sentence; there is none when all of these hold:
    each rank of the layout is present once, and no other
    rank r of DP rank d is in the bundle that bundles.py says, on that bundle's node
    the ranks of a TP group are in one NVLink domain, and on one node where it is one bundle
    STRICT_SPREAD: every bundle on a node of its own; STRICT_PACK: all on one node
    no GPU of a node is used twice
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rayserve_par.placement.bundles import Placement
from rayserve_par.placement.picture import CellText, NodeView, draw
from rayserve_par.planning.layout import Layout


@dataclass(frozen=True, slots=True)
class RankLocation:
    """Where one rank runs. `rank` counts within its DP rank's world of tp x pp."""

    dp_rank: int
    rank: int
    bundle: int
    node_id: str
    gpu: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """`expected` and `actual` are pictures of the nodes."""

    ok: bool
    violations: tuple[str, ...]
    expected: str
    actual: str


def rank_cell(layout: Layout, dp_rank: int, rank: int, instance: str = "") -> CellText:
    """How a picture shows a rank: its DP rank and stage where there are several, and itself."""
    parts = []
    if layout.dp > 1:
        parts.append(f"DP {dp_rank}")
    if layout.pp > 1:
        parts.append(f"stage {rank // layout.tp}")
    return CellText(instance, " ".join(parts), f"rank {rank}")


def _all_ranks(layout: Layout) -> tuple[tuple[int, int], ...]:
    world = range(layout.ranks_per_dp_rank)
    return tuple((dp_rank, rank) for dp_rank in range(layout.dp) for rank in world)


def _name(layout: Layout, dp_rank: int, rank: int) -> str:
    return f"rank {rank} of DP rank {dp_rank}" if layout.dp > 1 else f"rank {rank}"


def _presence(layout: Layout, locations: Sequence[RankLocation]) -> Iterator[str]:
    wanted = set(_all_ranks(layout))
    seen = Counter((one.dp_rank, one.rank) for one in locations)
    for dp_rank, rank in sorted(wanted - set(seen)):
        yield f"{_name(layout, dp_rank, rank)} is missing"
    for dp_rank, rank in sorted(set(seen) - wanted):
        yield f"{_name(layout, dp_rank, rank)} is not in {layout.label}"
    for (dp_rank, rank), count in sorted(seen.items()):
        if count > 1:
            yield f"{_name(layout, dp_rank, rank)} runs {count} times"


def _bundles(
    placement: Placement, locations: Sequence[RankLocation], bundle_nodes: Mapping[int, str]
) -> Iterator[str]:
    layout = placement.layout
    known = set(_all_ranks(layout))
    for one in locations:
        if (one.dp_rank, one.rank) not in known:
            continue
        name = _name(layout, one.dp_rank, one.rank)
        bundle = placement.bundle_of(one.dp_rank, one.rank)
        if one.bundle != bundle:
            yield f"{name} is in bundle {one.bundle}, not in bundle {bundle}"
        node = bundle_nodes.get(bundle)
        if node is not None and one.node_id != node:
            yield f"{name} runs on node {one.node_id}; its bundle {bundle} is on node {node}"


def _groups(
    placement: Placement, locations: Sequence[RankLocation], domains: Mapping[str, str]
) -> Iterator[str]:
    known = set(_all_ranks(placement.layout))
    nodes_of: dict[int, set[str]] = defaultdict(set)
    for one in locations:
        if (one.dp_rank, one.rank) in known:
            bundle = placement.bundle_of(one.dp_rank, one.rank)
            nodes_of[placement.tp_group_of(bundle)].add(one.node_id)
    for group, nodes in sorted(nodes_of.items()):
        if len(nodes) > 1 and placement.bundles_per_tp_group == 1:
            yield f"TP group {group} is split over nodes {', '.join(sorted(nodes))}"
        joined = {domains.get(node) for node in nodes}
        if None in joined:
            unknown = sorted(node for node in nodes if node not in domains)
            yield f"TP group {group}: the NVLink domain of node {', '.join(unknown)} is not known"
        elif len(joined) > 1:
            names = ", ".join(sorted(str(domain) for domain in joined))
            yield f"TP group {group} is split over NVLink domains {names}"


def _strategy(placement: Placement, bundle_nodes: Mapping[int, str]) -> Iterator[str]:
    count = len(placement.bundles)
    for bundle in range(count):
        if bundle not in bundle_nodes:
            yield f"bundle {bundle} has no node"
    used: dict[str, list[int]] = defaultdict(list)
    for bundle in range(count):
        if bundle in bundle_nodes:
            used[bundle_nodes[bundle]].append(bundle)
    if placement.strategy == "STRICT_SPREAD":
        what = "TP groups" if placement.bundles_per_tp_group == 1 else "bundles"
        for node, bundles in sorted(used.items()):
            if len(bundles) > 1:
                listed = ", ".join(str(bundle) for bundle in bundles)
                yield f"node {node} holds {what} {listed}; each must have a node of its own"
    if placement.strategy == "STRICT_PACK" and len(used) > 1:
        yield f"the instance is spread over nodes {', '.join(sorted(used))}; it must be on one"


def _doubled_gpus(layout: Layout, locations: Sequence[RankLocation]) -> Iterator[str]:
    users: dict[tuple[str, int], list[str]] = defaultdict(list)
    for one in locations:
        users[one.node_id, one.gpu].append(_name(layout, one.dp_rank, one.rank))
    for (node, gpu), names in sorted(users.items()):
        if len(names) > 1:
            yield f"GPU {gpu} of node {node} is used by {', '.join(names)}"


def _expected_nodes(placement: Placement, bundle_nodes: Mapping[int, str]) -> tuple[str, ...]:
    """The node each bundle should be on: the one it is on, where the strategy allows that."""
    found: list[str] = []
    for bundle in range(len(placement.bundles)):
        node = bundle_nodes.get(bundle, f"node of bundle {bundle}")
        if placement.strategy == "STRICT_PACK":
            node = bundle_nodes.get(0, "one node")
        elif placement.strategy == "STRICT_SPREAD" and node in found:
            node = f"another node, for bundle {bundle}"
        found.append(node)
    return tuple(found)


def _sizes_seen(
    placement: Placement, locations: Sequence[RankLocation], bundle_nodes: Mapping[int, str]
) -> dict[str, int]:
    """GPUs that each node must have, so that both pictures draw it alike."""
    counts = Counter(bundle_nodes.values())
    sizes = {node: count * placement.gpus_per_bundle for node, count in counts.items()}
    for one in locations:
        sizes[one.node_id] = max(sizes.get(one.node_id, 0), one.gpu + 1)
    return sizes


def _picture(cells: Mapping[tuple[str, int], CellText], sizes: Mapping[str, int]) -> str:
    nodes = list(dict.fromkeys(node for node, _ in cells))
    views = []
    for node in nodes:
        used = 1 + max(gpu for name, gpu in cells if name == node)
        views.append(NodeView(node, node, max(used, sizes.get(node, 0))))
    return draw(views, cells)


def _expected_picture(
    placement: Placement, bundle_nodes: Mapping[int, str], sizes: Mapping[str, int]
) -> str:
    layout, nodes = placement.layout, _expected_nodes(placement, bundle_nodes)
    cells: dict[tuple[str, int], CellText] = {}
    used: Counter[str] = Counter()
    for dp_rank, rank in _all_ranks(layout):
        node = nodes[placement.bundle_of(dp_rank, rank)]
        cells[node, used[node]] = rank_cell(layout, dp_rank, rank)
        used[node] += 1
    return _picture(cells, sizes)


def _actual_picture(
    layout: Layout, locations: Sequence[RankLocation], sizes: Mapping[str, int]
) -> str:
    cells: dict[tuple[str, int], CellText] = {}
    for one in locations:
        cell, key = rank_cell(layout, one.dp_rank, one.rank), (one.node_id, one.gpu)
        if key in cells:
            both = f"{cells[key].rank}+{one.rank}"
            cell = CellText("", cells[key].place, both)
        cells[key] = cell
    return _picture(cells, sizes)


def verify(
    placement: Placement,
    locations: Sequence[RankLocation],
    domain_of_node: Mapping[str, str],
    bundle_nodes: Mapping[int, str],
    *,
    gpus_of_node: Mapping[str, int] | None = None,
) -> Verdict:
    """Compare where ranks run with the placement.

    `domain_of_node` gives every node's NVLink domain, `bundle_nodes` the node Ray gave each
    bundle, `gpus_of_node` (optional) the size to draw nodes at. The expected picture fills a
    node's GPUs from 0, since which of a node's GPUs a bundle gets is Ray's to say.
    """
    layout = placement.layout
    violations = (
        *_presence(layout, locations),
        *_bundles(placement, locations, bundle_nodes),
        *_groups(placement, locations, domain_of_node),
        *_strategy(placement, bundle_nodes),
        *_doubled_gpus(layout, locations),
    )
    sizes = {**_sizes_seen(placement, locations, bundle_nodes), **(gpus_of_node or {})}
    return Verdict(
        ok=not violations,
        violations=violations,
        expected=_expected_picture(placement, bundle_nodes, sizes),
        actual=_actual_picture(layout, locations, sizes),
    )
