"""Each baseline at its best setting, found by trying: what ours is compared with.

Best is the fewest GPU-hours among the settings that reach the attainment; where none does, the
highest attainment. Serve's policy is tried with targets from 2 to 16 requests and three pairs of
delays, up and down: Serve's defaults (30 s, 600 s), none up (0 s, 600 s), and quick (0 s, 60 s).
"""

from __future__ import annotations

from collections.abc import Sequence

from rayserve_par.control.decide.baselines import AverageRate, OngoingRequests, Static
from rayserve_par.control.decide.decision import Policy
from rayserve_par.control.decide.settings import Bounds
from rayserve_par.control.instance_model.capacity import InstanceModel
from rayserve_par.control.simulate.figures import Figures
from rayserve_par.errors import RefusedError

TARGETS = (2.0, 4.0, 8.0, 16.0)
DELAYS = ((30.0, 600.0), (0.0, 600.0), (0.0, 60.0))
WINDOWS = (30.0, 60.0, 300.0)
NAMES = ("target_ongoing_requests", "average_rate", "static")


def settings_of(asked: str, bounds: Bounds, model: InstanceModel) -> tuple[Policy, ...]:
    """The settings of one baseline to try: those of NAME, or the one of NAME=NUMBER.

    Raises RefusedError for a name that is none.
    """
    name, _, value = asked.partition("=")
    number = _number(asked, value) if value else None
    if name == "target_ongoing_requests":
        targets = TARGETS if number is None else (number,)
        return tuple(
            OngoingRequests(bounds, one, upscale_delay_s=up, downscale_delay_s=down)
            for one in targets
            for up, down in DELAYS[: None if number is None else 1]
        )
    if name == "average_rate":
        windows = WINDOWS if number is None else (number,)
        return tuple(AverageRate(bounds, model, one) for one in windows)
    if name == "static" and number is not None:
        return (Static(bounds.clamp(int(number))),)
    raise RefusedError(
        f"--baseline {asked}: not known. Give target_ongoing_requests or average_rate (each at "
        "its best setting), target_ongoing_requests=NUMBER, average_rate=SECONDS or "
        "static=INSTANCES."
    )


def _number(asked: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not 0 < number < 1e6:
        raise RefusedError(f"--baseline {asked}: {value} is not a number above 0.")
    return number


def best_of(results: Sequence[Figures], wanted: float) -> Figures:
    """The best setting's result; see the module's docstring."""
    enough = [one for one in results if one.outside.attainment >= wanted]
    if enough:
        return min(enough, key=lambda one: one.gpu_hours)
    return max(results, key=lambda one: one.outside.attainment)


def label(policy: Policy) -> str:
    """A policy with its setting."""
    if isinstance(policy, OngoingRequests):
        return (
            f"{policy.name}={policy.target_ongoing_requests:g} "
            f"(delays {policy.upscale_delay_s:g} s, {policy.downscale_delay_s:g} s)"
        )
    if isinstance(policy, AverageRate):
        return f"{policy.name}={policy.window_seconds:g} s"
    if isinstance(policy, Static):
        return f"{policy.name}={policy.instances}"
    return policy.name
