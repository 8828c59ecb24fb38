"""The page itself: the plan's texts and pictures put into the template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from rayserve_par.cli.plan_explain import time_lines
from rayserve_par.cli.plan_html.memory_bars import PART_CLASSES, memory_bars
from rayserve_par.cli.plan_html.pareto_plot import Legend, legend, pareto_plot
from rayserve_par.cli.plan_html.topology import topology
from rayserve_par.cli.plan_numbers import (
    ERROR_NOTE,
    RUNNER_UP_COLUMNS,
    Line,
    layout_rows,
    predicted_lines,
)
from rayserve_par.cli.plan_view import headline, memory_parts
from rayserve_par.cli.planned_placement import planned_placement
from rayserve_par.hardware.gpu import GIB
from rayserve_par.model.spec import ModelSpec
from rayserve_par.planning.pareto import Curve, pareto_curves, plan_stages
from rayserve_par.planning.performance import Constants
from rayserve_par.planning.plan import Plan
from rayserve_par.sizing.compare import beside_rule
from rayserve_par.sizing.rank_memory import RankMemory

_TEMPLATE = "page.html.j2"
_ROWS_SHOWN = 12


@dataclass(frozen=True)
class PagePlan:
    """A plan with what its pictures need; the template reads its properties."""

    name: str
    model: ModelSpec
    plan: Plan
    constants: Constants | None = None
    notes: Sequence[str] = ()

    @property
    def headline(self) -> str:
        """Layout, GPUs and nodes in a line, without the model's name."""
        return headline(self.plan).plain.removeprefix(f"{self.plan.model_name}: ")

    @property
    def predicted(self) -> tuple[Line, ...]:
        """The numbers with their ranges."""
        return tuple(predicted_lines(self.plan))

    @cached_property
    def _curves(self) -> tuple[Curve, ...]:
        return pareto_curves(self.model, self.plan, self.constants)

    @cached_property
    def stages(self) -> tuple[RankMemory, ...]:
        """Memory of a rank of every stage."""
        return plan_stages(self.model, self.plan)

    @property
    def pareto(self) -> Markup:
        """The Pareto plot."""
        return pareto_plot(self.plan, self._curves)

    @property
    def legend(self) -> tuple[Legend, ...]:
        """The colours of the Pareto plot."""
        return legend(self._curves)

    @property
    def memory(self) -> Markup:
        """The memory bars."""
        return memory_bars(self.stages)

    @property
    def memory_parts(self) -> tuple[tuple[str, str, str], ...]:
        """(class, name, GiB) of the parts of the fullest rank."""
        return tuple(
            (class_, part.name, f"{part.size_bytes / GIB:.1f}")
            for class_, part in zip(PART_CLASSES, memory_parts(self.plan.memory), strict=True)
        )

    @property
    def topology(self) -> Markup:
        """The nodes."""
        return topology(self.plan)

    @property
    def instances_drawn(self) -> int:
        """Instances in the picture of the nodes."""
        return planned_placement(self.plan).instances_shown

    @property
    def rows(self) -> tuple[tuple[str, ...], ...]:
        """The layout taken and the runner-ups."""
        return layout_rows(self.plan)

    @property
    def beside_rule(self) -> tuple[str, ...]:
        """The rule of thumb beside the exact sizing."""
        plan = self.plan
        lines = beside_rule(plan.sizing, plan.memory, plan.layout.gpus)
        return (*plan.sizing.lines, *lines)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why, without the rule of thumb's lines, which have their own place."""
        rule = set(self.plan.sizing.lines)
        return tuple(line for line in self.plan.reasons if line not in rule)

    @property
    def times(self) -> tuple[str, ...]:
        """The formulas of the times."""
        return tuple(time_lines(self.plan, self.constants))


def page(plans: Sequence[PagePlan]) -> str:
    """The page of these plans."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = files(__package__).joinpath(_TEMPLATE).read_text(encoding="utf-8")
    return environment.from_string(source).render(
        plans=plans,
        columns=RUNNER_UP_COLUMNS,
        error_note=ERROR_NOTE,
        shown_rows=_ROWS_SHOWN,
    )
