"""Which layout wins on a cluster for a target, and why.

1. Every legal layout (enumerate.py) whose fullest rank holds one request is a candidate.
2. Where there is no NVLink, PP goes before TP and DP with EP: those are taken only if no other
   fits, if none meets a limit that was asked for, or for LATENCY, which PP does not lower.
3. An instance stays inside a node (or one NVLink domain over several) if any such candidate meets
   the limits, or fits where none anywhere does; else it goes over nodes: an MoE with EP over all
   its ranks, a dense model with TP x PP.
4. Of what is left the best by the target (`Target`), of those that meet the limits and of which
   the group holds enough for the rate; where none meets the limits, the one that breaks them by
   the smallest factor. Layouts within 3% of the best count as equal, and of equals the one with
   the fewest GPUs per instance wins; of the same size, TP alone before EP and DP unless those
   serve 15% more, somewhat above what predictions are off by.
5. BALANCED passes over instances whose KV memory holds fewer than 16 requests, and those that
   serve less than 0.4 of the most tokens per second and GPU that any layout would, if others are
   left.

GPUs that an instance leaves idle on its node count as its own (`Candidate.gpus_taken`).
More nodes than an instance needs become replicas.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, inf

from rayserve_par.errors import RefusedError
from rayserve_par.hardware.cluster import NodeGroup
from rayserve_par.planning.candidate import Candidate, Need, candidate_at
from rayserve_par.planning.enumerate import enumerate_layouts
from rayserve_par.planning.legality import RefusedLayout
from rayserve_par.planning.request import Target
from rayserve_par.planning.spread import spread_of
from rayserve_par.sizing.rank_memory import RankMemory
from rayserve_par.sizing.rule_of_thumb import RuleOfThumb

_AS_GOOD = 0.03
_BALANCED_REQUESTS = 16
_BALANCED_SHARE = 0.4
_CLEARLY_FASTER = 0.15
_NODES_TO_TRY = 64


@dataclass(frozen=True)
class Choice:
    """The layout taken, why, the candidates it was taken from, and what was refused."""

    best: Candidate
    reasons: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    refused: tuple[RefusedLayout, ...]
    rule: RuleOfThumb

    @property
    def memory(self) -> RankMemory:
        """The fullest rank of the layout taken."""
        return self.best.memory


def candidates_on(
    need: Need, group: NodeGroup, target: Target
) -> tuple[tuple[Candidate, ...], tuple[RefusedLayout, ...]]:
    """All candidates of one node group, and every layout refused with its reasons."""
    found = enumerate_layouts(need.model, group, min_gpus=fewest_gpus(need, group))
    kept: list[Candidate] = []
    refused = list(found.refused)
    for layout in found.legal:
        memory = need.memory(layout, group)
        if memory.fits(need.request_tokens):
            kept.append(candidate_at(need, spread_of(layout, group, "auto"), memory, target))
        else:
            refused.append(RefusedLayout(layout, (memory.shortage(need.request_tokens),)))
    return tuple(kept), tuple(refused)


def fewest_gpus(need: Need, group: NodeGroup) -> int:
    """GPUs whose budget holds the weights once: no layout with fewer can fit."""
    budget = group.gpu.usable_bytes * need.options.gpu_memory_utilization
    return max(1, ceil(need.model.weight_bytes / budget))


def _without_nvlink(
    need: Need, group: NodeGroup, found: Sequence[Candidate], target: Target
) -> tuple[list[Candidate], str]:
    if group.gpu.nvlink or group.gpu.engine_backend == "cpu" or target is Target.LATENCY:
        return list(found), ""
    without_tp = [one for one in found if one.layout.tp == one.layout.dp == 1]
    if not without_tp or len(without_tp) == len(found):
        return list(found), ""
    name, workload = group.gpu.name, need.workload
    asked = workload.ttft_seconds is not None or workload.tpot_seconds is not None
    if asked and not any(one.meets_limits for one in without_tp):
        return list(found), f"{name} has no NVLink, but PP alone does not meet {workload.label}"
    return without_tp, f"{name} has no NVLink: PP before TP"


def _over_nodes(need: Need, found: Sequence[Candidate]) -> list[Candidate]:
    """An MoE over nodes takes EP over them where it can, unless only others meet the limits."""
    wide = [one for one in found if one.layout.dp > 1]
    only_others = any(one.meets_limits for one in found) and not any(
        one.meets_limits for one in wide
    )
    return list(found) if only_others or not need.model.is_moe else wide or list(found)


def _narrowed(
    need: Need, group: NodeGroup, found: Sequence[Candidate], target: Target
) -> tuple[list[Candidate], tuple[str, ...]]:
    """Steps 2 and 3 of the module's docstring, with their reasons."""
    kept, no_nvlink = _without_nvlink(need, group, found, target)
    why = (no_nvlink,) if no_nvlink else ()
    inside = [one for one in kept if one.in_one_domain]
    over = _over_nodes(need, [one for one in kept if not one.in_one_domain])
    if any(one.meets_limits for one in inside) or not over:
        return inside, why
    size = f"a node of {group.gpus_per_node} x {group.gpu.name}"
    if not inside:
        return over, (*why, f"over nodes: {size} cannot hold the model and one request")
    if any(one.meets_limits for one in over):
        return over, (*why, f"over nodes: no layout inside {size} meets {need.workload.label}")
    return inside, why


def _score(target: Target, need: Need) -> Callable[[Candidate], float]:
    """What the target wants small."""
    rate = need.workload.requests_per_second or 0.0

    def cost(one: Candidate) -> float:
        price = one.group.gpu.price_per_hour_usd
        return inf if price is None else price / one.tokens_per_second_per_gpu_taken

    scores: dict[Target, Callable[[Candidate], float]] = {
        Target.BALANCED: lambda one: one.gpus_taken,
        Target.LATENCY: lambda one: one.point.tpot_seconds,
        Target.THROUGHPUT: lambda one: -one.tokens_per_second_per_gpu_taken,
        Target.COST: cost,
        Target.RATE: lambda one: one.instances_for(rate) * one.gpus_taken,
    }
    return scores[target]


def _simplicity(one: Candidate) -> tuple[float, ...]:
    layout, speed = one.layout, one.tokens_per_second_per_gpu_taken
    idle = one.gpus_taken - layout.gpus
    return (one.gpus_taken, idle, layout.pp, -speed, layout.dp, layout.ep, layout.tp)


def _answerable(need: Need, groups: Sequence[NodeGroup], target: Target) -> None:
    """Raises RefusedError where the target wants a price or a rate that nobody gave."""
    if target is Target.COST and all(one.gpu.price_per_hour_usd is None for one in groups):
        names = ", ".join(sorted({one.gpu.name for one in groups}))
        raise RefusedError(
            f"target cost: {names} has no list price. Give one (price_per_hour_usd in a cluster "
            "or GPU file), or take another target."
        )
    if target is Target.RATE and need.workload.requests_per_second is None:
        raise RefusedError("target rate: no rate is given. Give requests per second (--rate).")
    if target is Target.LATENCY and need.workload.requests_per_second is not None:
        raise RefusedError(
            "target latency is for one stream and cannot carry a rate of "
            f"{need.workload.requests_per_second:g} requests/s. Take target rate with a limit on "
            "TPOT (--target rate --tpot)."
        )


def _too_small(found: Sequence[Candidate]) -> Callable[[Candidate], bool]:
    """Step 5 of the module's docstring."""
    speeds = [one.tokens_per_second_per_gpu_taken for one in found if one.meets_limits]
    least = _BALANCED_SHARE * max(speeds, default=0.0)

    def small(one: Candidate) -> bool:
        slow = one.meets_limits and one.tokens_per_second_per_gpu_taken < least
        return slow or one.requests < _BALANCED_REQUESTS

    return small


def _simplest_first(ordered: list[Candidate], equal: int) -> list[Candidate]:
    """The first `equal` ones, where those of the first's size and nearly its speed change places.

    Of these, fewer stages, then TP without DP, then without EP come first.
    """
    head = sorted(ordered[:equal], key=_simplicity)
    size = _simplicity(head[0])[:2]
    same = [one for one in head if _simplicity(one)[:2] == size]
    best = max(one.tokens_per_second_per_gpu_taken for one in same)
    close = [
        one for one in same if one.tokens_per_second_per_gpu_taken >= (1 - _CLEARLY_FASTER) * best
    ]
    close.sort(
        key=lambda one: (one.layout.pp, one.layout.dp > 1, one.layout.ep > 1, _simplicity(one))
    )
    taken = {id(one) for one in close}  # comparing candidates would compare their memory
    return [*close, *(one for one in head if id(one) not in taken), *ordered[equal:]]


def ranked(need: Need, found: Sequence[Candidate], target: Target) -> list[Candidate]:
    """Candidates that meet the limits first, then by the target; equals by simplicity."""
    score, too_small = _score(target, need), _too_small(found)

    def limited(one: Candidate) -> bool:
        return target is not Target.LATENCY and not one.meets_limits

    def key(one: Candidate) -> tuple[bool, bool, bool, float]:
        small = target is Target.BALANCED and too_small(one)
        least = one.excess if limited(one) else score(one)
        return (limited(one), not one.carries_rate, small, least)

    ordered = sorted(found, key=lambda one: (*key(one), *_simplicity(one)))
    if not ordered:
        return []
    first = key(ordered[0])
    exact = target in (Target.BALANCED, Target.RATE) and not limited(ordered[0])
    bound = first[3] + (0.0 if exact else abs(first[3]) * _AS_GOOD)
    equal = [one for one in ordered if key(one)[:3] == first[:3] and key(one)[3] <= bound]
    if target is Target.LATENCY:
        return [*sorted(equal, key=_simplicity), *ordered[len(equal) :]]
    return _simplest_first(ordered, len(equal))


def _figures(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _headline(best: Candidate, target: Target) -> str:
    """Why the first of the ranking won, in one line."""
    point, layout = best.point, best.layout
    where = (
        "on one node"
        if best.spread.nodes_per_instance == 1
        else (f"over {best.spread.nodes_per_instance} nodes")
    )
    speed = (
        f"TPOT {1e3 * point.tpot_seconds:.1f} ms, TTFT {1e3 * point.ttft_seconds:.0f} ms, "
        f"{_figures(point.tokens_per_second_per_gpu)} tokens/s/GPU at {point.streams:g} "
        f"{'stream' if point.streams == 1 else 'streams'}"
    )
    wanted = {
        Target.BALANCED: "the fewest GPUs per instance that meet the limits",
        Target.LATENCY: "the lowest TPOT of one stream",
        Target.THROUGHPUT: "the most tokens/s/GPU within the limits",
        Target.COST: "the fewest dollars per million tokens within the limits",
        Target.RATE: "the fewest GPUs that carry the rate within the limits",
    }[target]
    if target is not Target.LATENCY and not best.meets_limits:
        return f"{layout.label} {where} comes nearest to the limits of what is considered: {speed}"
    return f"{layout.label} {where} is {wanted}: {speed}"


def choose(need: Need, group: NodeGroup, target: Target) -> Choice | tuple[RefusedLayout, ...]:
    """The layout for one node group; where none fits, what was refused."""
    found, refused = candidates_on(need, group, target)
    if not found:
        return refused
    narrowed, why = _narrowed(need, group, found, target)
    order = ranked(need, narrowed, target)
    best = order[0]
    reasons = (*why, _headline(best, target))
    if not best.meets_limits:
        others = [one.layout.label for one in found if one.meets_limits]
        beside = f" but {others[0]}, which is taken if these limits are asked for" if others else ""
        reasons = (*reasons, f"no layout meets {need.workload.label}{beside}")
    seen = {id(one) for one in order}
    rest = [one for one in found if id(one) not in seen]
    return Choice(best, reasons, (*order, *rest), refused, need.rule(group))


def missing_nodes(need: Need, group: NodeGroup, target: Target) -> str:
    """What a group that holds no instance lacks, in nodes and GPUs."""
    size = group.gpus_per_node
    least = max(group.nodes, -(-fewest_gpus(need, group) // size))
    most = 2 * least + _NODES_TO_TRY // size
    last: tuple[RefusedLayout, ...] = ()
    for nodes in range(least, most + 1):
        wider = NodeGroup(group.name, group.gpu, nodes, size)
        choice = choose(need, wider, target)
        if isinstance(choice, Choice):
            lacking = nodes - group.nodes
            return (
                f"{group.label}: {choice.best.layout.label} would fit, on {nodes} nodes of {size} "
                f"= {nodes * size} GPUs; there are {group.nodes} = {group.gpus} GPUs: {lacking} "
                f"{'node' if lacking == 1 else 'nodes'} ({lacking * size} GPUs) missing"
            )
        last = choice
    why = f"{last[-1].layout.label}: {last[-1].reasons[0]}" if last else "no layout is legal"
    return f"{group.label}: no layout fits up to {most} nodes: {why}"


def choose_group(
    need: Need, groups: tuple[NodeGroup, ...], target: Target
) -> tuple[Choice, tuple[str, ...]]:
    """The group whose best layout is best by the target (the first of equals), and why.

    Raises RefusedError where no group holds an instance, with what is missing, and where the
    target lacks a price or a rate.
    """
    _answerable(need, groups, target)
    found: list[Choice] = []
    without: list[str] = []
    for group in groups:
        choice = choose(need, group, target)
        if isinstance(choice, Choice):
            found.append(choice)
        else:
            without.append(missing_nodes(need, group, target))
    if not found:
        model, rule = need.model, need.rule(groups[0])
        raise RefusedError(
            f"{model.name} does not fit. {'; '.join(rule.lines[:3])}. "
            + ". ".join(without)
            + ". Add nodes, take GPUs with more memory, or a checkpoint of lower precision."
        )
    winner = ranked(need, [one.best for one in found], target)[0]
    best = next(one for one in found if one.best is winner)
    if len(groups) == 1:
        return best, ()
    sizes = ", ".join(
        f"{one.best.group.label}: {one.best.layout.label} = {one.best.layout.gpus} GPUs"
        for one in found
    )
    why = f"node group {winner.group.name} is best for {target} ({sizes})"
    return best, (why, *without)
