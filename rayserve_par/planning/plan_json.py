"""A plan as JSON and back, whole: plan_from_json(plan_to_json(p)) == p."""

from functools import cache
from typing import TYPE_CHECKING

from rayserve_par.errors import RefusedError
from rayserve_par.hardware.profile_json import problem_lines
from rayserve_par.planning.plan import Plan

if TYPE_CHECKING:
    from pydantic import TypeAdapter


@cache
def _adapter() -> "TypeAdapter[Plan]":
    from pydantic import TypeAdapter  # 0.15 s that planning alone need not pay

    return TypeAdapter(Plan)


def plan_to_json(plan: Plan) -> str:
    """The plan as indented JSON."""
    return _adapter().dump_json(plan, indent=2).decode()


def plan_from_json(text: str) -> Plan:
    """The plan that plan_to_json wrote. Raises RefusedError for any other text."""
    from pydantic import ValidationError

    try:
        return _adapter().validate_json(text)
    except ValidationError as error:
        raise RefusedError(f"this is not a plan's JSON:\n{problem_lines(error)}") from error
