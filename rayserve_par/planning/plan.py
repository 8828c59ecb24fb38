"""A plan: layout, number of instances, the numbers behind them, and what was refused.

    instances = all that the chosen node group holds (spread.py), or as many as asked for

Without a request the layout is chosen (choose.py). An explicit layout is obeyed where it is legal
and one request fits its fullest rank; below the rule of thumb's allowance is only a warning.
Predicted times are those of one instance at `point`; their typical error is that of models which
the performance model was not fitted to.
"""

from dataclasses import dataclass, replace

from rayserve_par.errors import RefusedError
from rayserve_par.hardware.cluster import Cluster, NodeGroup
from rayserve_par.model.spec import ModelSpec
from rayserve_par.planning.candidate import (
    Candidate,
    Need,
    candidate_at,
    reasons_against,
)
from rayserve_par.planning.choose import Choice, choose_group
from rayserve_par.planning.layout import Layout
from rayserve_par.planning.legality import RefusedLayout
from rayserve_par.planning.performance import Constants, OperatingPoint
from rayserve_par.planning.performance.constants import TypicalError, shipped_error
from rayserve_par.planning.request import (
    MINIMUM_REQUEST_TOKENS,
    LayoutRequest,
    Target,
    Workload,
)
from rayserve_par.planning.spread import Spread, spread_of
from rayserve_par.sizing.engine_options import EngineOptions
from rayserve_par.sizing.rank_memory import RankMemory
from rayserve_par.sizing.rule_of_thumb import DEFAULT_KV_ALLOWANCE, RuleOfThumb


@dataclass(frozen=True, slots=True)
class RunnerUp:
    """A layout that could be as well, with what it would do."""

    layout: Layout
    node_group: str
    nodes_per_instance: int
    kv_tokens: int
    point: OperatingPoint
    meets_limits: bool
    dollars_per_million_tokens: float | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run where, and why. Immutable; plan_to_json and plan_from_json carry it whole.

    `node_group` is the group whose nodes are used, `memory` that of the fullest rank.
    `point` is one instance where it would run under `workload`; `runner_ups` are the other
    candidates, best first. `auto` is what would have been taken without an explicit layout (None
    where nothing would fit), `auto_reasons` why; both are of the plan itself when nothing was
    asked for.
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
    workload: Workload
    point: OperatingPoint
    runner_ups: tuple[RunnerUp, ...]
    typical_error: TypicalError
    engine_options: EngineOptions
    explicit: bool = False

    @property
    def gpus(self) -> int:
        """GPUs of all instances."""
        return self.instances * self.layout.gpus

    @property
    def gpus_taken(self) -> float:
        """GPUs of all instances, with those of their nodes that nothing else can use."""
        spread = Spread(self.layout, self.node_group, self.across_nodes)
        return self.instances * spread.gpus_taken

    @property
    def tokens_per_second(self) -> float:
        """Output tokens per second of all instances."""
        return self.instances * self.point.tokens_per_second

    @property
    def requests_per_second(self) -> float:
        """Requests per second of all instances."""
        return self.instances * self.point.requests_per_second

    @property
    def dollars_per_hour(self) -> float | None:
        """List price of the GPUs taken; None where the GPU has none."""
        price = self.node_group.gpu.price_per_hour_usd
        return None if price is None else price * self.gpus_taken

    @property
    def dollars_per_million_tokens(self) -> float | None:
        """Output tokens at the list price, at `point`; None where the GPU has none."""
        hourly = self.dollars_per_hour
        return None if hourly is None else hourly / 3600 / self.tokens_per_second * 1e6


def _count(spread: Spread, wanted: int | None, for_rate: str = "") -> int:
    """Instances to run. Raises RefusedError where fewer fit than are wanted.

    `for_rate` says what makes them so many, where that is a rate.
    """
    room = spread.instances
    if wanted is not None and wanted < 1:
        raise RefusedError(f"instances is {wanted}; it must be at least 1.")
    least = wanted or 1
    if least > room:
        layout, group = spread.layout, spread.group
        raise RefusedError(
            f"{for_rate}{least} x {layout.label} need {least} x {layout.gpus} = "
            f"{least * layout.gpus} GPUs{_where(spread)}; {group.label} has {group.gpus} GPUs and "
            f"holds {room} ({spread.arithmetic}). "
            + (f"Ask for at most {room}, or add nodes." if room and not for_rate else "Add nodes.")
        )
    return wanted or room


def _where(spread: Spread) -> str:
    if spread.nodes_per_instance == 1:
        return ""
    own = ", each TP group on its own node," if spread.across_nodes else ""
    return f"{own} on {spread.nodes_per_instance} nodes per instance"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _count_lines(taken: Candidate, instances: int) -> tuple[str, ...]:
    spread, rate = taken.spread, taken.workload.requests_per_second
    count = "1 instance" if instances == 1 else f"{instances} instances (replicas)"
    holds = f"{count}: {spread.group.label} holds {spread.instances} ({spread.arithmetic})"
    if rate is None:
        return (holds,)
    each = taken.point.requests_per_second
    return (
        holds,
        f"{rate:g} requests/s / {each:.3g} of a full instance need "
        f"{_counted(taken.instances_for(rate), 'instance')}; the times predicted are those of "
        "full instances, and shorter below that",
    )


def _warnings(need: Need, taken: Candidate, instances: int, max_len: int | None) -> tuple[str, ...]:
    found = []
    plan_memory, layout, group = taken.memory, taken.layout, taken.group
    rate = need.workload.requests_per_second
    carried = instances * taken.point.requests_per_second
    if rate is not None and carried < rate:
        found.append(
            f"{_counted(instances, 'instance')} x {taken.point.requests_per_second:.3g} = "
            f"{carried:.3g} requests/s do not carry the {rate:g} asked for"
        )
    rule, tokens = need.rule(group), need.workload.tokens
    if not rule.holds(layout.gpus):
        have = rule.memory_gb(layout.gpus)
        found.append(
            f"{layout.label} has {have:g} GB, below the rule of thumb's {rule.vram_gb:.1f} GB "
            f"({rule.weights_gb:.1f} GB x {rule.kv_allowance:g}); the exact sizing leaves "
            f"{plan_memory.kv_tokens:,} KV tokens per DP rank, "
            f"{plan_memory.requests_at(tokens):,.0f} requests of {tokens:,} tokens"
        )
    context = need.model.max_context_tokens
    if max_len is None and not plan_memory.fits(context):
        found.append(
            f"the engine starts at the model's full context of {context:,} tokens unless "
            f"max_model_len is set, and {plan_memory.kv_tokens:,} KV tokens do not hold one such "
            f"request: set max_model_len to at most {plan_memory.longest_request:,}"
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
            against.append(f"On {group.label}: " + "; ".join(reasons) + ".")
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
    target: Target = Target.BALANCED,
    request: LayoutRequest | None = None,
    kv_allowance: float = DEFAULT_KV_ALLOWANCE,
    instances: int | None = None,
    max_model_len: int | None = None,
    gpu_memory_utilization: float = 0.9,
    workload: Workload | None = None,
    constants: Constants | None = None,
    options: EngineOptions | None = None,
) -> Plan:
    """Plan a model on a cluster.

    `max_model_len` in tokens is the request that must fit (2048, or the model's context where
    that is less, if not given); `gpu_memory_utilization` is the share of memory for the engine.
    `workload` is what is served (ISL 1024, OSL 256 if not given), and one request of it must fit
    as well, where `max_model_len` does not say a longer one; with a rate and no `instances`,
    as many instances are planned as carry it. `constants` replace those of the performance model
    that are shipped (calibration). `options` are further arguments of the engine that change its
    memory; `max_model_len` and `gpu_memory_utilization` win over theirs.
    Raises RefusedError, with the arithmetic, where nothing fits, where the layout asked for
    cannot be, and where more instances are asked for than fit.
    """
    if max_model_len is not None and max_model_len < 1:
        raise RefusedError(f"max_model_len is {max_model_len}; it must be at least 1.")
    longest = max_model_len or model.max_context_tokens
    if workload and workload.tokens > longest:
        whose = "max_model_len" if max_model_len else f"the context of {model.name}"
        raise RefusedError(
            f"workload: ISL {workload.isl} + OSL {workload.osl} = {workload.tokens} tokens exceed "
            f"{whose}, {longest}. Ask for shorter requests."
        )
    asked = workload.tokens if workload else 0
    tokens = max_model_len or max(asked, min(MINIMUM_REQUEST_TOKENS, longest))
    options = replace(
        options or EngineOptions(),
        gpu_memory_utilization=gpu_memory_utilization,
        max_model_len=max_model_len,
    )
    workload = workload or default_workload(tokens)
    need = Need(model, kv_allowance, tokens, options, workload, constants)
    groups = cluster.node_groups
    if request is not None:
        return _plan_explicit(need, request, groups, target, instances, max_model_len)
    choice, why = choose_group(need, groups, target)
    best = choice.best
    layout, group, spread = best.layout, best.group, best.spread
    count = _instances(best, instances)
    reasons = (*_from_choice(choice, why), *_count_lines(best, count))
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
        warnings=_warnings(need, best, count, max_model_len),
        workload=workload,
        point=best.point,
        runner_ups=_runner_ups(choice, layout),
        typical_error=shipped_error(),
        engine_options=options,
    )


def default_workload(longest: int) -> Workload:
    """ISL 1024 and OSL 256, or four and one fifths of the longest request where that is less."""
    if longest >= Workload().tokens:
        return Workload()
    isl = max(1, longest * 4 // 5)
    return Workload(isl=isl, osl=max(1, longest - isl))


def _instances(taken: Candidate, wanted: int | None) -> int:
    """As many as wanted; without that, as carry the rate; without one, all that fit."""
    rate = taken.workload.requests_per_second
    if wanted is not None or rate is None:
        return _count(taken.spread, wanted)
    each = taken.point.requests_per_second
    needed = taken.instances_for(rate)
    why = f"{rate:g} requests/s / {each:.3g} per instance = {needed} instances: "
    return _count(taken.spread, needed, why)


def _runner_ups(choice: Choice, taken: Layout) -> tuple[RunnerUp, ...]:
    return tuple(
        RunnerUp(
            layout=one.layout,
            node_group=one.group.name,
            nodes_per_instance=one.spread.nodes_per_instance,
            kv_tokens=one.memory.kv_tokens_per_instance,
            point=one.point,
            meets_limits=one.meets_limits,
            dollars_per_million_tokens=one.dollars_per_million_tokens,
        )
        for one in choice.candidates
        if one.layout != taken
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
    memory = need.memory(layout, group)
    taken = candidate_at(need, spread, memory, target)
    count = _instances(taken, instances)
    auto: Layout | None = None
    refused: tuple[RefusedLayout, ...] = ()
    runner_ups: tuple[RunnerUp, ...] = ()
    auto_reasons: tuple[str, ...]
    try:
        choice, why = choose_group(need, groups, target)
    except RefusedError as error:
        auto_reasons = (str(error),)
    else:
        auto, refused = choice.best.layout, choice.refused
        runner_ups = _runner_ups(choice, layout)
        auto_reasons = _from_choice(choice, why)
    own = ", each TP group on its own node" if spread.across_nodes else ""
    reasons = (
        f"asked for: {layout.label} ({_counted(layout.gpus, 'GPU')} on "
        f"{_counted(spread.nodes_per_instance, 'node')} per instance{own})",
        f"legal, and one request fits: {memory.shortage(need.request_tokens)}",
        *_count_lines(taken, count),
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
        warnings=_warnings(need, taken, count, max_model_len),
        workload=need.workload,
        point=taken.point,
        runner_ups=runner_ups,
        typical_error=shipped_error(),
        engine_options=need.options,
        explicit=True,
    )
