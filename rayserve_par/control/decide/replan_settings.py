"""What a user may set about re-planning, with the reasons for the defaults. Frozen and checked."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import isfinite

from rayserve_par.errors import RefusedError


@dataclass(frozen=True, slots=True)
class ReplanSettings:
    """When a layout is changed, and when it is taken back.

    least_gain               a candidate must be better by this share; predictions of one layout
                             against another are off by about as much
    horizon_seconds          a gain must pay for the change within this time
    settle_seconds           the cluster must have been the same for as long, since nodes come and
                             go in groups
    lost_settle_seconds      the same where the present layout fits no more
    least_interval_seconds   between two changes of the layout
    trial_seconds            a new layout is measured for as long before it is judged
    trial_limit_seconds      without comparable load it is kept after this
    worse_factor             it is taken back where a figure is worse by more than this
    barred_seconds           a layout that was taken back is not tried again for as long
    allow_outage             whether a change for a gain may stop all instances at once
    """

    least_gain: float = 0.15
    horizon_seconds: float = 3600.0
    settle_seconds: float = 60.0
    lost_settle_seconds: float = 10.0
    least_interval_seconds: float = 600.0
    trial_seconds: float = 120.0
    trial_limit_seconds: float = 1800.0
    worse_factor: float = 1.25
    barred_seconds: float = 6 * 3600.0
    allow_outage: bool = False

    def __post_init__(self) -> None:
        low = {"least_gain": 0.01, "worse_factor": 1.01}
        high = {"least_gain": 10.0, "worse_factor": 10.0}
        for field in fields(self):
            if field.name == "allow_outage":
                continue
            value = getattr(self, field.name)
            least, most = low.get(field.name, 0.0), high.get(field.name, 1e7)
            if not (isfinite(value) and least <= value <= most):
                raise RefusedError(
                    f"re-planning: {field.name} is {value:g}; it must be from {least:g} to "
                    f"{most:g}."
                )
        if self.trial_limit_seconds < self.trial_seconds:
            raise RefusedError(
                f"re-planning: trial_limit_seconds {self.trial_limit_seconds:g} is below "
                f"trial_seconds {self.trial_seconds:g}; give at least as much."
            )
