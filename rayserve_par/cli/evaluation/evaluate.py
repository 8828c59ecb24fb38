"""Every row predicted from its input, then judged.

A row that cannot be predicted is skipped with the reason and the others go on. A recommendation
for a model and GPU that we know, where the planner finds no layout, is a disagreement besides.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rayserve_par.cli.evaluation.config_folder import ConfigFolder
from rayserve_par.cli.evaluation.evidence import Kind, Row, read_evidence
from rayserve_par.cli.evaluation.forecast import Forecaster
from rayserve_par.cli.evaluation.inputs import EngineInput, LayoutInput, ServedInput
from rayserve_par.cli.evaluation.layout_choice import (
    Published,
    Question,
    choose_layout,
    plan_fields,
    question_of,
    why_not,
)
from rayserve_par.cli.evaluation.regret import point_of
from rayserve_par.cli.evaluation.statistics import relative_error
from rayserve_par.cli.evaluation.summary import Judged, summarise
from rayserve_par.errors import RefusedError
from rayserve_par.planning import Plan

# A config or row of a shape nobody thought of must not cost all the others.
_ODD = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Every row judged, in the order of the files."""

    judged: tuple[Judged, ...]

    @property
    def summary(self) -> dict[str, Any]:
        """The figures; see `summarise`."""
        return summarise(self.judged)


def evaluate(evidence: Path, configs: Path) -> Evaluation:
    """Predict and judge every row of a folder of evidence.

    Raises RefusedError where a folder is missing, or holds none of the files.
    """
    forecaster = Forecaster(ConfigFolder(configs))
    return Evaluation(tuple(judge(row, forecaster) for row in read_evidence(evidence)))


def judge(row: Row, forecaster: Forecaster) -> Judged:
    """One row, predicted and judged; skipped where that cannot be."""
    if row.unreadable is not None:
        return Judged(row, {}, skipped=row.unreadable)
    try:
        match row.kind:
            case Kind.LATENCY:
                return _served(row, forecaster)
            case Kind.ENGINE | Kind.MEMORY:
                return Judged(row, forecaster.engine(EngineInput.of(row.fields)))
            case Kind.LAYOUT:
                return _recommended(row, forecaster)
    except RefusedError as refusal:
        return Judged(row, {}, skipped=str(refusal))
    except _ODD as error:
        return Judged(row, {}, skipped=f"{type(error).__name__}: {error}")


def _served(row: Row, forecaster: Forecaster) -> Judged:
    given = ServedInput.of(row.fields)
    predicted = forecaster.served(given)
    measured = all(_is_measured(row.fields, key) for key in ("ttft_ms", "tpot_ms"))
    point = point_of(row.fields, forecaster.layout(given), predicted) if measured else None
    return Judged(row, predicted, point=point)


def _is_measured(fields: Mapping[str, Any], key: str) -> bool:
    return relative_error(0.0, fields.get(key)) is not None


def _recommended(row: Row, forecaster: Forecaster) -> Judged:
    given = LayoutInput.of(row.fields)
    question = question_of(given, forecaster.configs)
    try:
        found = choose_layout(question, given)
    except RefusedError as refusal:
        why = str(refusal)
        published = Published.of(row.fields)
        if published is None or not published.is_stated:
            return Judged(row, {}, why)
        recommended = published.gpus_per_instance
        return Judged(row, {}, why, agrees=False, recommended_gpus=recommended, why=why)
    chosen = Judged(row, plan_fields(question, found))
    try:
        return _compared(chosen, question, found)
    except _ODD:
        return chosen  # What is recommended makes no sense; the choice stands.


def _compared(chosen: Judged, question: Question, found: Plan) -> Judged:
    published = Published.of(chosen.row.fields)
    if published is None or not published.is_stated:
        return chosen
    agrees = published.agrees(found.layout.gpus, fits=chosen.predicted["predicted_fits"])
    why = "" if agrees else why_not(question, found, published)
    recommended = published.gpus_per_instance
    return replace(chosen, agrees=agrees, recommended_gpus=recommended, why=why)
