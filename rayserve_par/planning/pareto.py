"""What every layout of a plan would do from one stream to full KV memory, and the best of all.

    streams     DP ranks x (1, 2, 4, ..., room), room = the requests that a DP rank's KV memory
                holds at once, at most the engine's max_num_seqs
    a point     (tokens/s/user, tokens/s/GPU) at so many streams
    frontier    the points that no other point beats in both

Curves are of the layout taken and of the runner-ups on the same node group; their points at the
streams of the plan are those of the plan.
Left out: limits on TTFT and TPOT, which the plan's own point keeps to.
"""

from dataclasses import dataclass

from rayserve_par.model.spec import ModelSpec
from rayserve_par.planning.candidate import Need
from rayserve_par.planning.layout import Layout
from rayserve_par.planning.legality import split_of
from rayserve_par.planning.performance import Constants, OperatingPoint
from rayserve_par.planning.plan import Plan
from rayserve_par.planning.spread import Spread, spread_of
from rayserve_par.sizing.engine_options import EngineOptions
from rayserve_par.sizing.rank_memory import RankMemory, stage_memories


@dataclass(frozen=True, slots=True)
class Curve:
    """One layout from one stream per DP rank upwards."""

    layout: Layout
    points: tuple[OperatingPoint, ...]


def engine_options(plan: Plan) -> EngineOptions:
    """The engine that the plan was made for."""
    return plan.engine_options


def plan_stages(model: ModelSpec, plan: Plan) -> tuple[RankMemory, ...]:
    """Memory of a rank of every PP stage of the layout taken."""
    split = split_of(plan.layout)
    return stage_memories(model, plan.node_group.gpu, split, engine_options(plan))


def pareto_curves(
    model: ModelSpec, plan: Plan, constants: Constants | None = None
) -> tuple[Curve, ...]:
    """The curve of the plan's layout, then those of its runner-ups, best first.

    `constants` are those that the plan was made with.
    """
    group = plan.node_group
    others = [one.layout for one in plan.runner_ups if one.node_group == group.name]
    laid = [Spread(plan.layout, group, plan.across_nodes)]
    laid += [spread_of(layout, group, "auto") for layout in others]
    need = Need(
        model,
        plan.sizing.kv_allowance,
        plan.workload.tokens,
        engine_options(plan),
        plan.workload,
        constants,
    )
    return tuple(_curve(need, spread) for spread in laid)


def _curve(need: Need, spread: Spread) -> Curve:
    found, workload = need.predictor(spread), need.workload
    room = need.memory(spread.layout, spread.group).requests_at(workload.tokens)
    points = tuple(
        found.at(isl=workload.isl, osl=workload.osl, streams=streams * spread.layout.dp)
        for streams in _streams(min(room, need.most_streams(spread.group)))
    )
    return Curve(spread.layout, points)


def _streams(room: float) -> tuple[int, ...]:
    most = max(1, int(room))
    doubled = [2**n for n in range(most.bit_length()) if 2**n < most]
    return (*doubled, most)


def frontier(curves: tuple[Curve, ...]) -> tuple[tuple[Layout, OperatingPoint], ...]:
    """Points that none beats in tokens/s/user and in tokens/s/GPU, by tokens/s/user ascending."""
    points = [(curve.layout, point) for curve in curves for point in curve.points]
    points.sort(
        key=lambda one: (one[1].tokens_per_second_per_user, one[1].tokens_per_second_per_gpu),
        reverse=True,
    )
    best: list[tuple[Layout, OperatingPoint]] = []
    for layout, point in points:
        if not best or (point.tokens_per_second_per_gpu > best[-1][1].tokens_per_second_per_gpu):
            best.append((layout, point))
    return tuple(reversed(best))
