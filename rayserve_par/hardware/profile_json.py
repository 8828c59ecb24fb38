"""A profile as JSON and back, whole: profile_from_json(profile_to_json(p)) == p."""

from functools import cache
from typing import TYPE_CHECKING

from rayserve_par.errors import RefusedError
from rayserve_par.hardware.profile import Profile

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError


@cache
def _adapter() -> "TypeAdapter[Profile]":
    from pydantic import TypeAdapter  # 0.15 s that planning without a profile need not pay

    return TypeAdapter(Profile)


def profile_to_json(profile: Profile) -> str:
    """The profile as indented JSON."""
    return _adapter().dump_json(profile, indent=2).decode()


def profile_from_json(text: str) -> Profile:
    """The profile that profile_to_json wrote. Raises RefusedError for any other text."""
    from pydantic import ValidationError

    try:
        return _adapter().validate_json(text)
    except ValidationError as error:
        raise RefusedError(f"this is not a profile's JSON:\n{problem_lines(error)}") from error


def problem_lines(error: "ValidationError") -> str:
    """What is wrong with a file, one line for each place."""
    lines = []
    for problem in error.errors(include_url=False):
        place = ".".join(map(str, problem["loc"]))
        text = problem["msg"].removeprefix("Value error, ")
        lines.append(f"- {place}: {text}" if place else f"- {text}")
    return "\n".join(lines)
