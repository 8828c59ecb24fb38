"""A plan: layout, number of instances, the numbers behind them, and what was refused.

    instances = all that the chosen node group holds (spread.py), or as many as asked for

Without a request the layout is chosen (choose.py). An explicit layout is obeyed where it is legal
and one request fits its fullest rank; below the rule of thumb's allowance is only a warning.
Left out: time (latency, throughput) and price.
"""

from dataclasses import dataclass

from rayserve_par.errors import RefusedError
from rayserve_par.hardware.cluster import Cluster, NodeGroup
from rayserve_par.model.spec import ModelSpec
from rayserve_par.planning.choose import (
    Choice,
    Need,
    RefusedLayout,
    choose_group,
    reasons_against,
)
from rayserve_par.planning.layout import Layout
from rayserve_par.planning.request import MINIMUM_REQUEST_TOKENS, LayoutRequest, Target
from rayserve_par.planning.spread import Spread, spread_of
from rayserve_par.sizing.rank_memory import RankMemory
from rayserve_par.sizing.rule_of_thumb import DEFAULT_KV_ALLOWANCE, RuleOfThumb


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run where, and why. Immutable; plan_to_json and plan_from_json carry it whole.

    `node_group` is the group whose nodes are used, `memory` that of the fullest rank.
    `auto` is what would have been taken without an explicit layout (None where nothing would
    fit), `auto_reasons` why; both are of the plan itself when nothing was asked for.
    """

    model_name: str
    layout: Layout
    instances: int
    node_group: NodeGroup
    across_nodes: bool
    nodes_per_instance: int
    target: Target
    sizing: RuleOfThumb
    memory: RankMemory
    reasons: tuple[str, ...]
    refused: tuple[RefusedLayout, ...]
    auto: Layout | None
    auto_reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    explicit: bool = False

    @property
    def gpus(self) -> int:
        """GPUs of all instances."""
        return self.instances * self.layout.gpus


def _count(spread: Spread, wanted: int | None) -> int:
    """Instances to run. Raises RefusedError where fewer fit than are wanted."""
    room = spread.instances
    if wanted is not None and wanted < 1:
        raise RefusedError(f"instances is {wanted}; it must be at least 1.")
    least = wanted or 1
    if least > room:
        layout, group = spread.layout, spread.group
        raise RefusedError(
            f"{least} x {layout.label} need {least} x {layout.gpus} = {least * layout.gpus} GPUs"
            f"{_where(spread)}; {group.label} has {group.gpus} GPUs and holds {room} "
            f"({spread.arithmetic}). "
            + (f"Ask for at most {room}, or add nodes." if room else "Add nodes.")
        )
    return wanted or room


def _where(spread: Spread) -> str:
    if spread.nodes_per_instance == 1:
        return ""
    own = ", each TP group on its own node," if spread.across_nodes else ""
    return f"{own} on {spread.nodes_per_instance} nodes per instance"


def _count_line(spread: Spread, instances: int) -> str:
    count = "1 instance" if instances == 1 else f"{instances} instances (replicas)"
    return f"{count}: {spread.group.label} holds {spread.instances} ({spread.arithmetic})"


def _warnings(
    need: Need, plan_memory: RankMemory, layout: Layout, group: NodeGroup, max_len: int | None
) -> tuple[str, ...]:
    found = []
    rule = need.rule(group)
    if not rule.holds(layout.gpus):
        have = rule.memory_gb(layout.gpus)
        found.append(
            f"{layout.label} has {have:g} GB, below the rule of thumb's {rule.vram_gb:.1f} GB "
            f"({rule.weights_gb:.1f} GB x {rule.kv_allowance:g}): little room for KV cache, "
            f"{plan_memory.kv_tokens:,} tokens per DP rank"
        )
    context = need.model.max_context_tokens
    if max_len is None and plan_memory.kv_tokens < context:
        found.append(
            f"the engine starts at the model's full context of {context:,} tokens unless "
            f"max_model_len is set, and {plan_memory.kv_tokens:,} KV tokens do not hold one such "
            f"request: set max_model_len to at most {plan_memory.kv_tokens:,}"
        )
    if max_len is not None and max_len > context:
        found.append(
            f"max_model_len {max_len:,} exceeds the model's context of {context:,} tokens; the "
            "engine will refuse it"
        )
    if layout.tp > 1 and not group.gpu.nvlink and group.gpu.engine_backend != "cpu":
        found.append(
            f"{group.gpu.name} has no NVLink: the all-reduce of TP {layout.tp} in every layer "
            "crosses PCIe; PP may be faster"
        )
    return tuple(found)


def _explicit_group(
    need: Need, request: LayoutRequest, groups: tuple[NodeGroup, ...], instances: int | None
) -> tuple[NodeGroup, Spread]:
    """The first group that can hold the layout asked for; RefusedError with all reasons if none."""
    layout = request.layout
    against: list[str] = []
    for group in groups:
        reasons = reasons_against(need, layout, group)
        if reasons:
            against.append(f"on {group.label}: " + "; ".join(reasons))
            continue
        spread = spread_of(layout, group, request.across)
        try:
            _count(spread, instances)
        except RefusedError as error:
            against.append(str(error))
            continue
        return group, spread
    raise RefusedError(
        f"{need.model.name} cannot run as {layout.label}. " + " ".join(against) + " Use another "
        "layout or leave it out to have one chosen."
    )


def _from_choice(choice: Choice, why: tuple[str, ...]) -> tuple[str, ...]:
    return (*why, *choice.rule.lines, *choice.reasons)


def plan(
    model: ModelSpec,
    cluster: Cluster,
    *,
    target: Target = Target.THROUGHPUT,
    request: LayoutRequest | None = None,
    kv_allowance: float = DEFAULT_KV_ALLOWANCE,
    instances: int | None = None,
    max_model_len: int | None = None,
    gpu_memory_utilization: float = 0.9,
) -> Plan:
    """Plan a model on a cluster.

    `max_model_len` in tokens is the request that must fit (2048, or the model's context where
    that is less, if not given); `gpu_memory_utilization` is the share of memory for the engine.
    Raises RefusedError, with the arithmetic, where nothing fits, where the layout asked for
    cannot be, and where more instances are asked for than fit.
    """
    if max_model_len is not None and max_model_len < 1:
        raise RefusedError(f"max_model_len is {max_model_len}; it must be at least 1.")
    tokens = max_model_len or min(MINIMUM_REQUEST_TOKENS, model.max_context_tokens)
    need = Need(model, kv_allowance, tokens, gpu_memory_utilization)
    groups = cluster.node_groups
    if request is not None:
        return _plan_explicit(need, request, groups, target, instances, max_model_len)
    choice, why = choose_group(need, groups, target)
    layout, group = choice.layout, choice.group
    spread = spread_of(layout, group, "auto")
    count = _count(spread, instances)
    reasons = (*_from_choice(choice, why), _count_line(spread, count))
    return Plan(
        model_name=model.name,
        layout=layout,
        instances=count,
        node_group=group,
        across_nodes=spread.across_nodes,
        nodes_per_instance=spread.nodes_per_instance,
        target=target,
        sizing=choice.rule,
        memory=choice.memory,
        reasons=reasons,
        refused=choice.refused,
        auto=layout,
        auto_reasons=reasons,
        warnings=_warnings(need, choice.memory, layout, group, max_model_len),
    )


def _plan_explicit(
    need: Need,
    request: LayoutRequest,
    groups: tuple[NodeGroup, ...],
    target: Target,
    instances: int | None,
    max_model_len: int | None,
) -> Plan:
    layout = request.layout
    group, spread = _explicit_group(need, request, groups, instances)
    count = _count(spread, instances)
    memory = need.memory(layout, group)
    auto: Layout | None = None
    refused: tuple[RefusedLayout, ...] = ()
    auto_reasons: tuple[str, ...]
    try:
        choice, why = choose_group(need, groups, target)
    except RefusedError as error:
        auto_reasons = (str(error),)
    else:
        auto, refused = choice.layout, choice.refused
        auto_reasons = _from_choice(choice, why)
    own = ", each TP group on its own node" if spread.across_nodes else ""
    reasons = (
        f"asked for: {layout.label} ({layout.gpus} GPUs on {spread.nodes_per_instance} nodes per "
        f"instance{own})",
        f"legal, and one request fits: {memory.shortage(need.request_tokens)}",
        _count_line(spread, count),
    )
    return Plan(
        model_name=need.model.name,
        layout=layout,
        instances=count,
        node_group=group,
        across_nodes=spread.across_nodes,
        nodes_per_instance=spread.nodes_per_instance,
        target=target,
        sizing=need.rule(group),
        memory=memory,
        reasons=reasons,
        refused=refused,
        auto=auto,
        auto_reasons=auto_reasons,
        warnings=_warnings(need, memory, layout, group, max_model_len),
        explicit=True,
    )
